/** Images over the turns of a session: rejected ones stay out, the model list decides about videos, regions stay apart. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Kimi } from "../../index.ts";
import { type Simulator, startSimulator } from "../simulator/index.ts";
import { withMachine } from "../support/account.ts";
import { Home } from "../support/pi.ts";
import { fakeMp4, fakePng } from "../support/sample-media.ts";
import { addon, type Dialect, DIALECTS, runOne } from "../support/turn.ts";
import { answerRequests } from "../support/simulator.ts";

let simulator: Simulator;
let home: Home;

withMachine((...given) => ([simulator, home] = given), { identityGate: "off" });

interface Message {
  role: string;
  content: unknown;
}

function image(seed: string, bytes = 1000): object {
  return { type: "image", mimeType: "image/png", data: fakePng(bytes, seed).toString("base64") };
}

function user(...content: object[]): object {
  return { role: "user", content, timestamp: 1 };
}

async function ask(messages: object[], dialect: Dialect, sessionId?: string): Promise<object> {
  const message = await turn(messages, dialect, sessionId);
  assert.equal(message.stopReason, "stop", message.errorMessage);
  return message;
}

async function turn(messages: object[], dialect: Dialect, sessionId?: string) {
  const { message } = await runOne(addon(), {
    baseUrl: simulator.baseUrl,
    apiKey: simulator.apiKey,
    dialect,
    env: { HOME: home.home },
    context: { messages },
    options: sessionId === undefined ? {} : { sessionId },
  });
  return message;
}

function bodies(): Message[][] {
  return answerRequests(simulator).map(({ json }) => (json as unknown as { messages: Message[] }).messages);
}

const REFUSAL = { status: 400, body: { error: { message: "Unsupported image. Please try another one.", type: "x" } } };

for (const dialect of DIALECTS) {
  const endpoint = dialect === "openai" ? "chat" : "messages";
  describe(`${dialect}: 400 for an image without naming it`, () => {
    test("later turns → leave it out as well, with the same text", async () => {
      const session = `refused ${dialect}`;
      const history = [user({ type: "text", text: "one" }, image(`good ${dialect}`))];
      history.push(await ask(history, dialect, session), user({ type: "text", text: "two" }, image(`bad ${dialect}`)));
      simulator.intercept(endpoint, REFUSAL);
      history.push(await ask(history, dialect, session));
      const [, refused, healed] = bodies();
      assert.equal(JSON.stringify(refused).match(/data:image|"base64"/g)?.length, 2);
      assert.equal(JSON.stringify(healed).match(/data:image|"base64"/g)?.length, 1, "the first was taken before");
      assert.match(JSON.stringify(healed), /image left out: the service refused it/);

      history.push(user({ type: "text", text: "three" }));
      await ask(history, dialect, session);
      assert.equal(bodies().length, 4, "one request, not two");
      const next = bodies().at(-1);
      // The cache marker moves on in this dialect; everything else is the same prefix.
      const plain = (messages: unknown): string =>
        JSON.stringify(messages).replaceAll(/,"cache_control":\{[^}]*\}/g, "");
      const length = healed?.length ?? 0;
      assert.equal(plain(next?.slice(0, length)), plain(healed));
    });

    test("another session → sends it again", async () => {
      const history = [user({ type: "text", text: "one" }, image(`elsewhere ${dialect}`))];
      simulator.intercept(endpoint, REFUSAL);
      await ask(history, dialect, `first ${dialect}`);
      await ask(history, dialect, `second ${dialect}`);
      assert.match(JSON.stringify(bodies().at(-1)), /data:image|"base64"/);
    });
  });
}

for (const dialect of DIALECTS) {
  const endpoint = dialect === "openai" ? "chat" : "messages";
  const refusal = (place: string) => ({
    status: 400,
    body: { error: { message: `Unsupported image${place}.`, type: "x" } },
  });

  describe(`${dialect}: several 400s`, () => {
    test("two images rejected one after the other → left out of the same turn, and of later ones", async () => {
      const session = `two ${dialect}`;
      const answer = await ask([user({ type: "text", text: "one" })], dialect, session);
      const first = user({ type: "text", text: "one" }, image(`first ${dialect}`));
      const history = [first, answer, user({ type: "text", text: "two" }, image(`second ${dialect}`))];
      simulator.intercept(endpoint, refusal(" in messages[0]"), refusal(" in messages[2]"));
      await ask(history, dialect, session);
      assert.equal(bodies().length, 4);
      await ask(history, dialect, session);
      assert.equal(bodies().length, 5, "the last turn needs one request");
      assert.equal(JSON.stringify(bodies().at(-1)).match(/image left out/g)?.length, 2);
    });

    test("many images rejected one after the other → three requests, then none is left", async () => {
      const session = `many ${dialect}`;
      const history: unknown[] = [];
      for (const number of [1, 2, 3, 4, 5]) {
        if (number > 1) history.push(await ask([user({ type: "text", text: "go" })], dialect, undefined));
        history.push(user({ type: "text", text: `${number}` }, image(`many ${number} ${dialect}`)));
      }
      const before = bodies().length;
      simulator.intercept(endpoint, refusal(" in messages[0]"), refusal(" in messages[2]"));
      await ask(history as never, dialect, session);
      assert.equal(bodies().length - before, 3);
      assert.equal(JSON.stringify(bodies().at(-1)).match(/image left out/g)?.length, 5);
      // Only those that the service named stay out.
      await ask(history as never, dialect, session);
      assert.equal(JSON.stringify(bodies().at(-1)).match(/image left out/g)?.length, 2);
    });

    test("accepted images rejected one after the other → a third refusal ends the turn", async () => {
      const session = `often ${dialect}`;
      const history: unknown[] = [];
      for (const number of [1, 2, 3]) {
        history.push(user({ type: "text", text: `${number}` }, image(`often ${number} ${dialect}`)));
        history.push(await ask(history as never, dialect, session));
      }
      history.push(user({ type: "text", text: "go on" }));
      const before = bodies().length;
      const places = [" in messages[0]", " in messages[2]", " in messages[4]"];
      simulator.intercept(endpoint, ...places.map(refusal));
      const failed = await turn(history as never, dialect, session);
      assert.match(failed.errorMessage ?? "", /Unsupported image in messages\[4\]/);
      assert.equal(bodies().length - before, 3);
      simulator.intercept(endpoint, refusal(" in messages[4]"));
      await ask(history as never, dialect, session);
      assert.equal(bodies().length - before, 5, "what was refused before is left out from the beginning");
    });

    test("images that were accepted before → not removed for good", async () => {
      const session = `taken ${dialect}`;
      const history = [user({ type: "text", text: "one" }, image(`taken ${dialect}`))];
      history.push(await ask(history, dialect, session), user({ type: "text", text: "two" }));
      simulator.intercept(endpoint, refusal(""));
      history.push(await ask(history, dialect, session), user({ type: "text", text: "three" }));
      assert.match(JSON.stringify(bodies().at(-1)), /image left out/);
      await ask(history, dialect, session);
      assert.match(JSON.stringify(bodies().at(-1)), /data:image|"base64"/);
    });
  });
}

describe("videos", () => {
  const video = {
    type: "video_url",
    video_url: { url: `data:video/mp4;base64,${fakeMp4(300, "catalog").toString("base64")}` },
  } as const;

  async function described(takes: boolean): Promise<string> {
    simulator.catalog.models = [
      {
        id: "kimi-for-coding",
        object: "model",
        context_length: 262144,
        supports_image_in: true,
        supports_video_in: takes,
      },
    ];
    const kimi = new Kimi({ baseUrl: simulator.baseUrl, apiKey: simulator.apiKey, env: { HOME: home.home } });
    await kimi.models();
    await kimi.chat([{ role: "user", content: [video] }]).final();
    return JSON.stringify(bodies().at(-1));
  }

  test("model list says the model takes videos → sent", async () => {
    assert.match(await described(true), /"ms:\/\//);
    assert.match(await described(false), /video omitted: model does not support videos/);
    assert.equal(simulator.files.all.length, 1);
  });
});

test("two regions in one home → never share a file", async () => {
  const other = await startSimulator({ identityGate: "off" });
  try {
    other.setDefault({ steps: [{ text: "ok" }] });
    const messages = [user(image("regions", 2_000_000))];
    const ids: (string | undefined)[] = [];
    for (const [serial, region] of [simulator, other, simulator, other].entries()) {
      const { message } = await runOne(addon(), {
        baseUrl: region.baseUrl,
        apiKey: region.apiKey,
        env: { HOME: home.home },
        context: { messages },
      });
      assert.equal(message.stopReason, "stop", message.errorMessage);
      ids.push(/ms:\/\/([0-9a-f]+)/.exec(region.requests.at(-1)?.rawBody.toString() ?? "")?.[1]);
      assert.equal(region.files.all.at(-1)?.id, ids[serial]);
    }
    assert.deepEqual([ids[0], ids[1]], [ids[2], ids[3]]);
    assert.deepEqual([simulator.files.all.length, other.files.all.length], [1, 1]);
  } finally {
    await other.close();
  }
});
