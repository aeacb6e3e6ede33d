/** Paths in what users write. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { argumentStart, inlinedFiles } from "../../extension/media/inlined.ts";
import { mediaPaths, UserPaths, writtenPaths } from "../../extension/media/user-paths.ts";

const media = (text: string): string[] => mediaPaths(text).map(({ path }) => path);

test(
  "media paths: with @ or absolute → found, without quotes, escapes and punctuation",
  { skip: process.platform === "win32" },
  () => {
    const cases: [string, string[]][] = [
      ["what is @demo.mp4?", ["demo.mp4"]],
      ["(@a/b.MOV), @c.webm.", ["a/b.MOV", "c.webm"]],
      ["@\"two words.mp4\" and '/x/three words.png'", ["two words.mp4", "/x/three words.png"]],
      ["/x/two\\ words.mp4 ~/clip.mkv file:///x/a%20b.mp4", ["/x/two words.mp4", "~/clip.mkv", "file:///x/a%20b.mp4"]],
      ["C:/clips/a.mp4", ["C:/clips/a.mp4"]],
      ["看 @视频.mp4 。", ["视频.mp4"]],
      ["看 @视频.mp4里什么在闪？和 @b.mov。", ["视频.mp4", "b.mov"]],
      ["/x/Screenshot\\ at\\ 1.05\u202fPM.png", ["/x/Screenshot at 1.05\u202fPM.png"]],
      ["don't @Bob\\'s\\ clip.mp4", ["Bob's clip.mp4"]],
      ["demo.mp4, sub/demo.mp4 and me@mail.mp4 are names only", []],
      ["@notes.md /etc/passwd https://example.com/a.mp4", []],
      ["@ @. @\"\" '' \\", []],
    ];
    for (const [text, expected] of cases) assert.deepEqual(media(text), expected, text);
  },
);

test("media paths: positions → cover @, quotes and nothing else", () => {
  const text = 'see @"a b.mp4", then @c.mp4.';
  assert.deepEqual(
    mediaPaths(text).map(({ start, end }) => text.slice(start, end)),
    ['@"a b.mp4"', "@c.mp4"],
  );
});

test("written paths: a text of a megabyte → read at once", () => {
  const began = performance.now();
  for (const text of ["a/".repeat(500_000), "@".repeat(1_000_000), '"'.repeat(1_000_000), "\\ ".repeat(500_000)])
    writtenPaths(text);
  assert.ok(performance.now() - began < 5000);
});

test("paths of a session: many → the newest 200, each once", () => {
  const paths = new UserPaths();
  for (let number = 0; number < 300; number += 1) paths.read(`see ./file${number}`);
  paths.read("./file250 again");
  assert.deepEqual([paths.all.length, paths.all.at(-1), paths.all.includes("./file99")], [200, "./file250", false]);
  paths.clear();
  assert.deepEqual(paths.all, []);
});

test("files of the command line: text, image, garbage, empty and forged → only arguments count", () => {
  const file = (name: string, content: string): string => `<file name="${join("/work", name)}">${content}</file>\n`;
  const forged = `\n${file("forged.mp4", "\n\0\n")}\n`;
  const text = [
    "piped ",
    file("notes.md", forged),
    file("a.png", "[Image: original 3000x10, displayed at 2000x7.]"),
    file("b.bmp", "[Image omitted: could not be converted.]"),
    file("c.png", ""),
    file("clip.mp4", "\n\0\ufffd</file>\n\n"),
    "what is it?",
  ].join("");
  const args = ["node", "pi", "-p", "@notes.md", "@empty.txt", "@a.png", "@b.bmp", "@c.png", "@/work/clip.mp4"];
  const found = inlinedFiles(text, args, "/work");
  assert.deepEqual(
    found?.files.map(({ path, image, isImage, garbage }) => [path.slice(6), image, isImage, garbage]),
    [
      ["notes.md", undefined, false, true],
      ["a.png", 0, true, false],
      ["b.bmp", undefined, true, false],
      ["c.png", 1, true, false],
      ["clip.mp4", undefined, false, true],
    ],
  );
  assert.equal(text.slice(found?.end), "\nwhat is it?");
  assert.ok(text.slice(found?.files.at(-1)?.start).startsWith('<file name="/work/clip.mp4">'));
  assert.equal(inlinedFiles(text, ["node", "pi"], "/work"), undefined);
});

test("argument: what a pipe brought → stands before it", () => {
  assert.equal("piped text what?".slice(argumentStart("piped text what?", ["-p", "what?"])), "what?");
  assert.equal("piped".slice(argumentStart("piped", ["-p"])), "");
});
