//! Our lock and npm's `proper-lockfile` exclude each other, whichever process dies while holding it.
//!
//! Children of both kinds take turns: under the lock each writes its process id into a file and removes it again. Finding the
//! id of a living process there means that two hold the lock at once. Some children are killed at random moments.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kimi_code::storage::dir_lock::Waiter;

const STALE: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 150;
const TIMEOUT: Duration = Duration::from_secs(300);

const NODE_CHILD: &str = r#"
const lockfile = require(process.env.LOCK_MODULE);
const fs = require("node:fs");
const { LOCK_TARGET: target, LOCK_ROUNDS: rounds } = process.env;
const alive = (pid) => { try { process.kill(pid, 0); return true; } catch { return false; } };
(async () => {
  for (let round = 0; round < Number(rounds);) {
    let release;
    try {
      release = await lockfile.lock(target, { realpath: false, stale: 5000, retries: 0 });
    } catch (error) {
      if (error.code !== "ELOCKED") throw error;
      await new Promise((wake) => setTimeout(wake, 2 + Math.random() * 10));
      continue;
    }
    const holder = target + ".holder";
    const other = fs.existsSync(holder) ? Number(fs.readFileSync(holder, "utf8")) : 0;
    if (other && alive(other)) { console.error("two holders"); process.exit(3); }
    fs.writeFileSync(holder, String(process.pid));
    await new Promise((wake) => setTimeout(wake, Math.random() * 3));
    fs.rmSync(holder);
    await release();
    round += 1;
  }
})();
"#;

/// A process of this very program that does what the Node child does. Only runs when a parent asks for it.
#[test]
fn child_that_takes_turns() {
    let (Ok(target), Ok(rounds)) = (std::env::var("LOCK_TARGET"), std::env::var("LOCK_ROUNDS")) else { return };
    let target = PathBuf::from(target);
    let holder = target.with_extension("holder");
    let alive = |pid: &str| !pid.is_empty() && Path::new("/proc").join(pid).join("stat").exists();
    let mut waiter = Waiter::new(&target, STALE, &Default::default());
    let mut round = 0_u32;
    while round < rounds.parse().unwrap() {
        let Some(lock) = waiter.try_lock().unwrap() else {
            std::thread::sleep(Duration::from_millis(2 + rand::random::<u64>() % 10));
            continue;
        };
        let other = fs::read_to_string(&holder).unwrap_or_default();
        assert!(!alive(&other), "two holders");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&holder).unwrap();
        write!(file, "{}", std::process::id()).unwrap();
        std::thread::sleep(Duration::from_millis(rand::random::<u64>() % 3));
        assert!(lock.is_held(), "a living holder never loses its lock");
        fs::remove_file(&holder).unwrap();
        drop(lock);
        round += 1;
    }
}

struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[allow(clippy::unwrap_used, reason = "a helper of this test")]
fn spawn(ours: bool, target: &Path, rounds: u32) -> Child {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/proper-lockfile");
    let mut command = if ours {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_that_takes_turns"]);
        command
    } else {
        let mut command = Command::new("node");
        command.args(["-e", NODE_CHILD]);
        command
    };
    command.env("LOCK_TARGET", target).env("LOCK_ROUNDS", rounds.to_string()).env("LOCK_MODULE", module);
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[allow(clippy::unwrap_used, reason = "a helper of this test")]
fn wait(child: &mut Child, until: Instant) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "a child waits for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn both_kinds_exclude_each_other_and_survive_killed_holders() {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("node_modules/proper-lockfile").exists() {
        panic!("run npm ci first: this test needs the npm package proper-lockfile");
    }
    let place = std::env::temp_dir().join(format!("kimi-turns-{:016x}", rand::random::<u64>()));
    fs::create_dir_all(&place).unwrap();
    let target = place.join("file");
    let mut lasting = Children((0..6).map(|n| spawn(n % 2 == 0, &target, ROUNDS)).collect());
    for round in 0..4 {
        // These have endless work and die in the middle of it.
        let mut doomed = Children(vec![spawn(round % 2 == 0, &target, u32::MAX)]);
        std::thread::sleep(Duration::from_millis(900 + rand::random::<u64>() % 600));
        assert!(doomed.0[0].try_wait().unwrap().is_none(), "it must die by our hand, not by itself");
        doomed.0[0].kill().unwrap();
    }
    let until = Instant::now() + TIMEOUT;
    for child in &mut lasting.0 {
        assert!(wait(child, until).success());
    }
    // The last one to die may have held it: then it is abandoned, and the next one who comes gets it.
    let mut waiter = Waiter::new(&target, STALE, &Default::default());
    let until = Instant::now() + 2 * STALE;
    while waiter.try_lock().unwrap().is_none() {
        assert!(Instant::now() < until, "a dead holder blocks everybody");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!place.join("file.lock").exists());
    fs::remove_dir_all(place).unwrap();
}
