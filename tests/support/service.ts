/** The simulator in a process of its own, for tests and measurements in which the client's event loop must not slow it down. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Scenario } from "../simulator/types.ts";

export interface Service {
  baseUrl: string;
  apiKey: string;
  pid: number;
  enqueue(...scenarios: Scenario[]): Promise<void>;
  setDefault(scenario: Scenario | null): Promise<void>;
  /** Resets everything, including the request log. */
  reset(): Promise<void>;
  stop(): void;
}

/** `flags` as the simulator's program takes them. */
export async function startService(flags: string[] = []): Promise<Service> {
  const program = join(import.meta.dirname, "..", "simulator", "main.ts");
  const child = spawn(process.execPath, [program, "--port", "0", "--identity-gate", "agent", ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding("utf8").once("data", resolve);
    child.once("exit", (code) => reject(new Error(`the simulator ended with code ${code}`)));
  });
  const variable = (name: string): string => new RegExp(`${name}=(\\S+)`).exec(line)?.[1] ?? "";
  const baseUrl = variable("KIMI_CODE_BASE_URL");
  const admin = async (call: string, body: unknown): Promise<void> => {
    const response = await fetch(`${new URL(baseUrl).origin}/__admin/${call}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${call}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  };
  return {
    baseUrl,
    apiKey: variable("KIMI_API_KEY"),
    pid: child.pid ?? 0,
    enqueue: (...scenarios) => admin("enqueue", scenarios),
    setDefault: (scenario) => admin("default", scenario),
    reset: () => admin("reset", {}),
    stop: () => void child.kill("SIGTERM"),
  };
}
