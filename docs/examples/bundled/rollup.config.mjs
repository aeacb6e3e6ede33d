// Rollup: `rollup -c`. Node's own modules stay external; @rollup/plugin-node-resolve finds the package.
import { nodeResolve } from "@rollup/plugin-node-resolve";

export default {
  input: "program.mjs",
  output: { file: "dist/rollup.mjs", format: "es" },
  plugins: [nodeResolve({ exportConditions: ["node"] })],
  external: [/^node:/],
};
