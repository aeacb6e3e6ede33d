/** A token that the service refuses inside of a stream with status 200 is renewed once, like one that it refuses with 401. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Simulator } from "../simulator/index.ts";
import { errorFrame, text } from "../simulator/scenario.ts";
import { type Machine, withMachine } from "../support/account.ts";
import { DIALECTS } from "../support/turn.ts";

let simulator: Simulator;
let machine: Machine;

withMachine((...given) => ([simulator, machine] = given), { identityGate: "off" });

const REFUSAL = errorFrame(
  "The API Key appears to be invalid or may have expired. Please verify your credentials and try again.",
  "invalid_authentication_error",
);

for (const protocol of DIALECTS) {
  describe(`refusal inside a stream, ${protocol}`, () => {
    const env = { KIMI_CODE_PROTOCOL: protocol };

    test("login → the token is renewed once and the request sent again", async () => {
      machine.kimiLogin(simulator.oauth.login(), 900);
      simulator.enqueue({ steps: [REFUSAL] });
      assert.deepEqual(await machine.nodeTurn({ env }), { text: "ok" });
      assert.equal(simulator.oauth.refreshes, 1);
    });

    test("login, refused twice → the error says how to sign in", async () => {
      machine.kimiLogin(simulator.oauth.login(), 900);
      simulator.enqueue({ steps: [REFUSAL] }, { steps: [REFUSAL] });
      const { code, error } = await machine.nodeTurn({ env });
      assert.equal(code, "unauthorized");
      assert.match(error ?? "", /kimi\.login\(\)/);
      assert.equal(simulator.oauth.refreshes, 1);
    });

    test("login, refused after output → the turn ends and nothing is sent again", async () => {
      machine.kimiLogin(simulator.oauth.login(), 900);
      simulator.enqueue({ steps: [text("o"), REFUSAL] });
      const { text: seen, code } = await machine.nodeTurn({ env });
      assert.deepEqual([seen, code, simulator.oauth.refreshes], ["o", "unauthorized", 0]);
    });

    test("static key → the error names the key and nothing is renewed", async () => {
      simulator.enqueue({ steps: [REFUSAL] });
      const { code, error } = await machine.nodeTurn({ env, key: simulator.apiKey });
      assert.equal(code, "unauthorized");
      assert.match(error ?? "", /The API key was refused/);
      assert.equal(simulator.oauth.refreshes, 0);
    });
  });
}
