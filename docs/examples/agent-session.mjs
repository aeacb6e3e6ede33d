// Pi's SDK: a coding agent inside your program, with its own key and host. Needs @earendil-works/pi-coding-agent.
import {
  createAgentSession,
  DefaultResourceLoader,
  getAgentDir,
  ModelRuntime,
  SessionManager,
  SettingsManager,
} from "@earendil-works/pi-coding-agent";
import { KimiCode } from "pi-provider-kimi-code";

const cwd = process.cwd();
const agentDir = getAgentDir();
const settingsManager = SettingsManager.inMemory();
const modelRuntime = await ModelRuntime.create({ authPath: `${agentDir}/auth.json`, modelsPath: null });
const resourceLoader = new DefaultResourceLoader({
  cwd,
  agentDir,
  settingsManager,
  extensionFactories: [KimiCode({ apiKey: process.env.MY_KEY, baseUrl: process.env.MY_GATEWAY })],
});
await resourceLoader.reload();

const { session } = await createAgentSession({
  cwd,
  agentDir,
  settingsManager,
  modelRuntime,
  resourceLoader,
  sessionManager: SessionManager.inMemory(cwd),
  noTools: "all",
});
await session.bindExtensions({});
await session.setModel(modelRuntime.getModel("kimi-coding", "kimi-for-coding"));
await session.prompt("Say hello.");
console.log(session.getLastAssistantText());
session.dispose();
