/**
 * Opens web pages in the user's browser.
 */

/** Opens a page if this process has a screen nearby: not over SSH, on Linux only with a display. Errors are ignored. */
export function openBrowser(url: string, env: NodeJS.ProcessEnv = process.env): void {
  if (!/^https?:\/\//.test(url) || !hasScreen(env)) return;
  void start(url).catch(() => undefined);
}

async function start(url: string): Promise<void> {
  // Not imported above, because that costs every start a millisecond.
  const { spawn } = await import("node:child_process");
  const [command, args] = openCommand();
  const browser = spawn(command, [...args, url], { stdio: "ignore", detached: true });
  // The user still has the address on the screen.
  browser.on("error", () => undefined);
  browser.unref();
}

function hasScreen(env: NodeJS.ProcessEnv): boolean {
  if (env["SSH_CONNECTION"] || env["SSH_CLIENT"] || env["SSH_TTY"]) return false;
  if (process.platform === "darwin" || process.platform === "win32") return true;
  return Boolean(env["DISPLAY"] || env["WAYLAND_DISPLAY"] || env["TERMUX_VERSION"]);
}

function openCommand(): [command: string, args: string[]] {
  switch (process.platform) {
    case "darwin":
      return ["open", []];
    case "win32":
      // Unlike `cmd /c start`, this does not interpret the characters of the address.
      return ["rundll32", ["url.dll,FileProtocolHandler"]];
    case "android":
      return ["termux-open-url", []];
    default:
      return ["xdg-open", []];
  }
}
