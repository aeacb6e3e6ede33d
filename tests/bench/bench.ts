/** Shared parts of a bench run: the service, fresh processes, the report. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Scenario } from "../simulator/types.ts";
import { type Service, startService } from "../support/service.ts";
import type { ChildSpec, Measured } from "./child.ts";
import { median, type Report } from "./report.ts";

export class Bench {
  readonly service: Service;
  readonly report: Report;
  /** Number of repetitions; the median is reported. */
  readonly runs: number;
  /** Use small sizes, to check that everything works. */
  readonly quick: boolean;
  /** Include measurements that take minutes. */
  readonly full: boolean;

  constructor(service: Service, report: Report, options: { runs: number; quick: boolean; full: boolean }) {
    this.service = service;
    this.report = report;
    this.runs = options.runs;
    this.quick = options.quick;
    this.full = options.full;
  }

  /** The same, against a service that accepts conversations longer than any model's window. */
  async unlimited(work: (bench: Bench) => Promise<void>): Promise<void> {
    const service = await startService(["--no-validation"]);
    try {
      await work(new Bench(service, this.report, this));
    } finally {
      service.stop();
    }
  }

  /** Runs a program of this folder in a new process and returns its output. */
  async program(file: string, args: string[], env: Record<string, string> = {}): Promise<string> {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--expose-gc", join(import.meta.dirname, file), ...args],
      {
        env: { ...process.env, BENCH_URL: this.service.baseUrl, BENCH_KEY: this.service.apiKey, ...env },
        timeout: 900_000,
        maxBuffer: 64 << 20,
      },
    );
    return stdout;
  }

  /** Medians of a measurement, each in a fresh process, against a service that answers with `scenario`. */
  async measure(scenario: Scenario, spec: ChildSpec): Promise<Measured> {
    const results: Measured[] = [];
    for (let run = 0; run < this.runs; run += 1) {
      await this.service.reset();
      await this.service.enqueue({ steps: [{ text: "warm" }] });
      await this.service.setDefault(scenario);
      results.push(JSON.parse(await this.program("child.ts", [JSON.stringify(spec)])) as Measured);
    }
    const of = (member: keyof Measured): number => median(results.map((result) => result[member]));
    return {
      wall: of("wall"),
      main: of("main"),
      mainCpu: of("mainCpu"),
      delay: of("delay"),
      cpu: of("cpu"),
      rssMb: of("rssMb"),
      events: of("events"),
    };
  }
}
