/** Rendering of Kimi's tools: no row wider than the screen, no control characters from the web, previews and complete results. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { Theme, ToolDefinition } from "@earendil-works/pi-coding-agent";
import { initTheme } from "@earendil-works/pi-coding-agent";
import { stripTerminalSequences, visibleWidth } from "@earendil-works/pi-tui";
import { host } from "../../extension/environment.ts";
import { KimiServices } from "../../extension/services.ts";
import { datasourceTool } from "../../extension/tools/datasource.ts";
import { fetchTool } from "../../extension/tools/fetch.ts";
import { piParts } from "../../extension/tools/pi-helpers.ts";
import type { Component, ToolParts } from "../../extension/tools/render.ts";
import { mediaTool } from "../../extension/tools/media.ts";
import { searchTool } from "../../extension/tools/search.ts";
import { addon } from "../support/turn.ts";

let shared: ToolParts;
let collapsed = true;

before(async () => {
  initTheme("dark");
  const modules = {
    agent: await import("@earendil-works/pi-coding-agent"),
    tui: await import("@earendil-works/pi-tui"),
  };
  shared = {
    services: new KimiServices(addon(), host(undefined)),
    // The key bindings exist only in an interactive Pi; tests/services/tui.test.ts covers them.
    parts: { ...piParts(modules), keyHint: (_binding, description) => `ctrl+o ${description}` },
    collapsed: () => collapsed,
    session: async () => ({}),
  };
});

/** Colors as escape sequences, so that a width counted in characters would be wrong. */
const theme = {
  fg: (_color: string, text: string) => `\u001b[32m${text}\u001b[39m`,
  bold: (text: string) => `\u001b[1m${text}\u001b[22m`,
} as unknown as Theme;

interface Look {
  expanded?: boolean;
  isError?: boolean;
  last?: Component;
}

function look(tool: ToolDefinition, result: { text: string; details?: unknown }, how: Look = {}): Component {
  const context = { lastComponent: how.last, isError: how.isError ?? false } as never;
  const content = [{ type: "text" as const, text: result.text }];
  const options = { expanded: how.expanded ?? false, isPartial: false };
  const component = tool.renderResult?.({ content, details: result.details }, options, theme, context);
  assert.ok(component);
  return component as Component;
}

function callLook(tool: ToolDefinition, args: unknown): Component {
  const component = tool.renderCall?.(args as never, theme, { lastComponent: undefined } as never);
  assert.ok(component);
  return component as Component;
}

function rows(component: Component, width = 80): string[] {
  return component.render(width).map((row) => stripTerminalSequences(row).trimEnd());
}

const HOSTILE = "月之暗面\u001b[2J 发布 K3\r\n👩‍👩‍👧‍👦 é\u0301 \u202egnp.exe\t" + "無".repeat(90) + "x".repeat(300);

function found(title: string): object {
  return {
    title,
    url: `https://example.com/${title}`,
    site: "Site 站",
    date: "2026-05-01",
    snippet: `About ${title}.`,
  };
}

function searched(count: number, total = count): { text: string; details: object } {
  const results = Array.from({ length: count }, (_, index) => found(`Page ${index + 1}`));
  return { text: "…", details: { results, total, notes: [] } };
}

describe("rendering: no row is wider than the screen", () => {
  test("any text from the web and the model", () => {
    const tools = [searchTool(shared), fetchTool(shared), datasourceTool(shared)];
    const results = [
      { text: HOSTILE, details: { results: [found(HOSTILE), found("")], total: 99, notes: [] } },
      { text: `# ${HOSTILE}\n\n${HOSTILE}`, details: { bytes: 5000, lines: 3, notes: [], truncated: true } },
      { text: HOSTILE, details: { files: [{ name: HOSTILE, path: HOSTILE, size: 7 }], notes: [] } },
    ];
    const args = {
      query: HOSTILE,
      url: `https://example.com/${HOSTILE}`,
      data_source_name: "arxiv",
      api_name: HOSTILE,
      params: { [HOSTILE]: HOSTILE, list: [1, 2] },
    };
    for (const [index, tool] of tools.entries()) {
      for (const width of [2, 3, 5, 8, 13, 20, 40, 41, 80, 200]) {
        const looks = [callLook(tool, args)];
        for (const result of results) {
          for (const expanded of [false, true]) looks.push(look(tool, result, { expanded }));
          looks.push(look(tool, result, { isError: true }));
        }
        for (const row of looks.flatMap((component) => component.render(width))) {
          assert.ok(visibleWidth(row) <= width, `${tool.name} ${index} at ${width}: ${JSON.stringify(row)}`);
          // Colors and links are ours; every other control sequence came from outside.
          const plain = stripTerminalSequences(row);
          // oxlint-disable-next-line no-control-regex
          assert.doesNotMatch(plain, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
          assert.ok(!row.includes("\u001b[2J"));
        }
      }
    }
  });

  test("arguments incomplete or of the wrong type", () => {
    for (const tool of [searchTool(shared), fetchTool(shared), datasourceTool(shared)]) {
      for (const args of [undefined, {}, { query: 7, url: null, data_source_name: 3, params: "x" }]) {
        assert.match(rows(callLook(tool, args))[0] ?? "", new RegExp(`^${tool.name} `));
      }
    }
  });
});

describe("rendering: search", () => {
  test("collapsed → titles; expanded → everything", () => {
    const tool = searchTool(shared);
    assert.deepEqual(rows(look(tool, searched(5))), [
      "1. Page 1 — Site 站 · 2026-05-01",
      "2. Page 2 — Site 站 · 2026-05-01",
      "3. Page 3 — Site 站 · 2026-05-01",
      "2 more results (ctrl+o to expand)",
    ]);
    const whole = rows(look(tool, searched(5), { expanded: true }));
    assert.deepEqual(whole.slice(0, 3), [
      "1. Page 1 — Site 站 · 2026-05-01",
      "   https://example.com/Page 1",
      "   About Page 1.",
    ]);
    assert.equal(whole.length, 15);
    assert.match(rows(look(tool, searched(20, 5000), { expanded: true })).at(-1) ?? "", /^4980 more results went/);
  });

  test("default_collapsed off → expanded; no results → says so", () => {
    const tool = searchTool(shared);
    collapsed = false;
    assert.equal(rows(look(tool, searched(2))).length, 6);
    collapsed = true;
    assert.deepEqual(rows(look(tool, searched(0))), ["no results"]);
  });

  test("result of another version → shown as text", () => {
    const result = { text: "a\n\nb\nc\nd\ne", details: { something: "else" } };
    assert.deepEqual(rows(look(searchTool(shared), result)), ["a", "b", "c", "2 more lines (ctrl+o to expand)"]);
  });
});

describe("rendering: media", () => {
  test("collapsed → the file; expanded, default_collapsed off and errors → everything", () => {
    const tool = mediaTool(shared, {} as never);
    const result = { text: "[video demo.mp4, 300 KB]\nwhat flickers?" };
    const [file, question] = result.text.split("\n");
    assert.deepEqual(rows(look(tool, result)), [file]);
    assert.deepEqual(rows(look(tool, result, { expanded: true })), [file, question]);
    assert.deepEqual(rows(look(tool, result, { isError: true })), [file, question]);
    collapsed = false;
    assert.deepEqual(rows(look(tool, result)), [file, question]);
    collapsed = true;
  });
});

describe("rendering: page", () => {
  test("heading as title, body as Markdown", () => {
    const tool = fetchTool(shared);
    const page = { text: "intro\n\n## The **title**\n\n- one\n- two", details: { bytes: 2048, lines: 6, notes: [] } };
    assert.deepEqual(rows(look(tool, page)), ["The **title**", "2.0KB, 6 lines (ctrl+o to expand)"]);
    assert.ok(rows(look(tool, page, { expanded: true })).includes("- one"));
  });
});

describe("rendering: data source", () => {
  test("the query and the files written", () => {
    const tool = datasourceTool(shared);
    const args = { data_source_name: "fred", api_name: "series", params: { id: "GDP", file_path: "gdp.csv" } };
    assert.deepEqual(rows(callLook(tool, args)), ["kimi_datasource fred.series", "  id: GDP · file_path: gdp.csv"]);
    assert.deepEqual(rows(callLook(tool, { data_source_name: "fred" })), ["kimi_datasource fred documentation"]);
    const files = [
      { name: "gdp.csv", path: "gdp.csv", size: 2048 },
      { name: "x", size: 1, skipped: "no" },
    ];
    assert.deepEqual(rows(look(tool, { text: "1\n2\n\n3\n4\n\n[trace]", details: { files, notes: ["[trace]"] } })), [
      "1",
      "2",
      "3",
      "1 more line (ctrl+o to expand)",
      "wrote gdp.csv (2.0KB)",
    ]);
  });
});

test("rendering: unchanged result → component and layout are reused", () => {
  const tool = searchTool(shared);
  const component = look(tool, searched(5));
  assert.equal(component.render(80), component.render(80));
  assert.equal(look(tool, searched(4), { last: component }), component);
  assert.match(rows(component).at(-1) ?? "", /^1 more/);
});
