// Preloaded into other programs: shifts Date by the milliseconds in the file that KIMI_TEST_CLOCK names, read each time.
const { readFileSync } = require("node:fs");

const RealDate = Date;

function shift() {
  try {
    return Number(readFileSync(process.env.KIMI_TEST_CLOCK, "utf8")) || 0;
  } catch {
    return 0;
  }
}

globalThis.Date = class extends RealDate {
  constructor(...values) {
    super(...(values.length === 0 ? [RealDate.now() + shift()] : values));
  }
  static now() {
    return RealDate.now() + shift();
  }
};
