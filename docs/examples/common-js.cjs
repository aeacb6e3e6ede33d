// CommonJS: require() works on Node 22.12 and later.
const { Kimi } = require("pi-provider-kimi-code");

new Kimi().chat("Say hello.").text().then(console.log);
