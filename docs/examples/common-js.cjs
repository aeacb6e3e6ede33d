// CommonJS: require() works on Node 20.19 and later 20.x, and on 22.12 and later.
const { Kimi } = require("pi-provider-kimi-code");

new Kimi().chat("Say hello.").text().then(console.log);
