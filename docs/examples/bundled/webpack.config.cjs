// webpack: `webpack`. The target "node" keeps Node's own modules external.
module.exports = {
  mode: "production",
  target: "node20",
  entry: "./program.mjs",
  output: { path: `${__dirname}/dist`, filename: "webpack.cjs" },
};
