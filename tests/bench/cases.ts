/** The measured streams and the limits that our own path must stay below. */
import type { Scenario, Step } from "../simulator/types.ts";

/** Upper bounds in milliseconds; CPU is that of the whole process. */
export interface Goal {
  main?: number;
  delay?: number;
  cpu?: number | "floor";
}

export interface Case {
  name: string;
  what: string;
  /** Number of concurrent streams. */
  streams: number;
  scenario: Scenario;
  goal: Goal;
  /** Skipped unless --full: Pi's own parser takes minutes here. */
  quadratic?: boolean;
}

/** Sends many small deltas of one kind, as fast as possible or paced. */
export const repeat = (kind: "text" | "thinking" | "arguments", count: number, perSecond?: number): Step => ({
  repeat: { kind, count, text: kind === "arguments" ? "abc " : "word", ...(perSecond ? { perSecond } : {}) },
});

/** The cases; `scale` shrinks their sizes for a quick look. */
export function cases(scale: number): Case[] {
  const n = (count: number): number => Math.max(10, Math.round(count * scale));
  return [
    {
      name: "text",
      what: `${n(20_000)} text deltas`,
      streams: 1,
      scenario: { steps: [repeat("text", n(20_000))] },
      goal: { main: 15, delay: 10, cpu: "floor" },
    },
    {
      name: "thinking",
      what: `${n(20_000)} reasoning deltas, then one of text`,
      streams: 1,
      scenario: { steps: [repeat("thinking", n(20_000)), { text: "done" }] },
      goal: { main: 15, delay: 10, cpu: "floor" },
    },
    {
      name: "arguments-25k",
      what: `one call, ${n(25)} KB of arguments in 4-character deltas`,
      streams: 1,
      scenario: { steps: [repeat("arguments", n(6_250))] },
      goal: {},
    },
    {
      name: "arguments-200k",
      what: `one call, ${n(200)} KB of arguments in 4-character deltas`,
      streams: 1,
      scenario: { steps: [repeat("arguments", n(50_000))] },
      goal: { main: 30, delay: 15, cpu: 200 },
      quadratic: true,
    },
    {
      name: "arguments-400k",
      what: `the same with ${n(400)} KB`,
      streams: 1,
      scenario: { steps: [repeat("arguments", n(100_000))] },
      goal: { main: 63, delay: 15, cpu: 420 },
      quadratic: true,
    },
    {
      name: "eight-streams",
      what: `8 streams × (${n(10_000)} reasoning + ${n(10_000)} text deltas)`,
      streams: 8,
      scenario: { steps: [repeat("thinking", n(10_000)), repeat("text", n(10_000))] },
      goal: { main: 60, delay: 15, cpu: 700 },
    },
    {
      name: "paced",
      what: `8 streams × 250 events/s for ${(6 * scale).toFixed(1)} s`,
      streams: 8,
      scenario: { steps: [repeat("text", n(1_500), 250)] },
      goal: { main: 150, delay: 5, cpu: 600 },
    },
    {
      name: "eight-calls",
      what: `8 streams × one call with ${n(25)} KB of arguments`,
      streams: 8,
      scenario: { steps: [repeat("arguments", n(6_250))] },
      goal: { main: 40, delay: 15, cpu: 250 },
      quadratic: true,
    },
  ];
}

export const SUBJECTS = [
  "floor",
  "openai-sdk",
  "anthropic-sdk",
  "pi-openai",
  "pi-anthropic",
  "pi-openai-1.5.2",
  "pi-anthropic-1.5.2",
  "ours",
  "ours-anthropic",
] as const;

/** `streamText` of the AI SDK over each of two providers. */
export const AI_SDK_SUBJECTS = ["ai-sdk-openai-compatible", "ai-sdk-ours"] as const;
export type Subject = (typeof SUBJECTS)[number] | (typeof AI_SDK_SUBJECTS)[number];
