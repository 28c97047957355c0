//! Disks that are full, read-only, gone, or not where they were: state and tables each on a small file system of its own.
//!
//! A run that publishes is tried over a disk on which something is wrong. Its code must be honest and its error must answer
//! the five questions; every table must be the old one or the new one; `status` must answer. Then the disk is mended, and
//! one plain run must make everything as if nothing had happened: the tables, the hook, and nothing left over. That state
//! and tables lie on different file systems is so in every test: nothing is ever renamed from one to the other. Not here:
//! single system calls that fail (`crash.rs`).
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::campaign;
use common::plain::STAFF;
use common::postfix::{self, Instance};
use common::process::{command, succeed};
use common::rcptsync::{Outcome, Rcptsync};
use common::{require_root, write_file};

/// What a run may end with over a disk that is not as it should be.
const HONEST: [i32; 4] = [73, 75, 77, 78];

const KIB: u64 = 1024;

/// A file system in memory, for as long as this lives.
struct Volume(PathBuf);

impl Volume {
    fn mount(path: &Path) -> Volume {
        std::fs::create_dir_all(path).expect("a mount point");
        // Its permissions are those of the directory that it hides.
        let options = ["-t", "tmpfs", "-o", "size=16m,mode=0755", "rcptsync-test"];
        succeed(command("mount").args(options).arg(path));
        Volume(path.to_owned())
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        succeed(command("mount").args(["-o", &option]).arg(&self.0));
    }

    /// Leaves so much room, in KiB, and so many inodes.
    fn leave(&self, room: Option<u64>, inodes: Option<u64>) {
        let found = rustix::fs::statvfs(&self.0).expect("a file system");
        if let Some(room) = room {
            let used = (found.f_blocks - found.f_bfree) * found.f_frsize / KIB;
            self.remount(&format!("size={}k", used + room));
        }
        if let Some(inodes) = inodes {
            let used = found.f_files - found.f_ffree;
            self.remount(&format!("nr_inodes={}", used + inodes));
        }
    }

    fn mend(&self) {
        self.remount("rw,size=16m,nr_inodes=10000");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = command("umount").arg("-l").arg(&self.0).status();
    }
}

/// An installation in front of a run that publishes, to which it can be put back.
struct Scene {
    // First: the volumes go before the directory that they are mounted in.
    state: Volume,
    tables: Volume,
    program: Rcptsync,
    _postfix: Option<Instance>,
    before: BTreeMap<String, Vec<u8>>,
    after: BTreeMap<String, Vec<u8>>,
    seen_by_hook: String,
}

/// Tables in every format that is a file: those of ours alone, and those that postmap builds.
fn sections(directory: &Path, with_built: bool) -> String {
    let tables = directory.join("tables").display().to_string();
    let hook = directory.join("hook").display().to_string();
    // Where the octets of a table are other ones each time it is built, its size is told.
    write_file(
        &directory.join("hook"),
        format!(
            "cd {tables} && cat relay_recipients relay_recipients.cdb template | cksum >>{directory}/hook.log\n",
            directory = directory.display()
        ),
    );
    let built = if with_built {
        format!(
            "[table.built]\npath = \"{tables}/built\"\nformats = [\"text\", \"hash\", \"lmdb\"]\nfolding = \"unicode\"\n"
        )
    } else {
        String::new()
    };
    format!(
        "[table.template]\npath = \"{tables}/template\"\nformats = [\"template\"]\ntemplate = \"qmail-validrcptto\"\n\
         folding = \"unicode\"\n{built}\
         [[hook]]\nname = \"told\"\nrun = [\"/bin/sh\", \"{hook}\"]\n"
    )
}

impl Scene {
    fn new(name: &str, with_built: bool) -> Option<Scene> {
        if !require_root() || (with_built && !postfix::is_available()) {
            return None;
        }
        let mut program = Rcptsync::new(name);
        let directory = program.directory().to_owned();
        let (state, tables) = (directory.join("state"), directory.join("tables"));
        let (state, tables) = (Volume::mount(&state), Volume::mount(&tables));
        common::set_mode(&state.0, 0o700);
        let postfix = with_built.then(|| Instance::for_postmap(true));
        program.mail_config = postfix.as_ref().map(Instance::config_directory);
        program.configure(&["example.com"], STAFF, &sections(&directory, with_built));
        let mut scene = Scene {
            state,
            tables,
            program,
            _postfix: postfix,
            before: BTreeMap::new(),
            after: BTreeMap::new(),
            seen_by_hook: String::new(),
        };
        scene.staff(0..200);
        scene.sync().expect_code(0);
        scene.shell("mkdir kept && cp -a state tables hook.log kept");
        scene.before = scene.contents();
        scene.staff(1..260);
        scene.sync().expect_code(0);
        scene.after = scene.contents();
        scene.seen_by_hook = scene.hook_log();
        assert!(scene.before.len() >= 3 && scene.before.len() == scene.after.len());
        Some(scene)
    }

    fn staff(&self, numbers: std::ops::Range<usize>) {
        let names: Vec<String> = numbers.map(|number| format!("person{number}")).collect();
        self.program.staff(&names.join(" "));
    }

    fn sync(&self) -> Outcome {
        self.program.run(&["sync"])
    }

    fn shell(&self, script: &str) {
        succeed(
            command("sh")
                .args(["-ec", script])
                .current_dir(self.program.directory()),
        );
    }

    fn reset(&self) {
        self.shell(
            "find state tables -mindepth 1 -delete; cp -a kept/state/. state; cp -a kept/tables/. tables; \
             cp -a kept/hook.log hook.log",
        );
    }

    /// The files beside which nothing else may lie. What Berkeley DB writes is never twice the same, so there only that it is
    /// there counts; its rows were proven when it was built.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(&self.tables.0).into_iter().flatten();
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let is_same_each_time = path.is_file() && !name.ends_with(".db");
            let content = is_same_each_time.then(|| std::fs::read(&path).expect("a table"));
            (name, content.unwrap_or_default())
        };
        entries.map(file).collect()
    }

    fn hook_log(&self) -> String {
        let log = std::fs::read_to_string(self.program.directory().join("hook.log"));
        log.unwrap_or_default()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    }

    #[track_caller]
    fn check_not_half(&self, what: &str, outcome: &Outcome) {
        let now = self.contents();
        for (name, before) in &self.before {
            let found = now.get(name);
            let is_whole = found == Some(before) || found == self.after.get(name);
            assert!(is_whole, "{what}: {name} is half\n{}", outcome.stderr);
        }
    }

    /// A run over a disk that `disturb` broke, and one over the disk that `mend` mended.
    #[track_caller]
    fn check(&self, what: &str, disturb: impl FnOnce(), mend: impl FnOnce()) -> Option<i32> {
        self.reset();
        disturb();
        let outcome = self.sync();
        let is_done = outcome.code == Some(0);
        let is_honest = outcome.code.is_some_and(|code| HONEST.contains(&code));
        assert!(
            (is_done || is_honest) && !outcome.stderr.contains("panicked"),
            "{what}: {:?}\n{}",
            outcome.code,
            outcome.stderr
        );
        if is_honest {
            outcome.expect_answers(&[]);
        } else {
            assert!(self.contents() == self.after, "{what}: 0 with old tables");
        }
        // Who looks at a table that is not there is told so; half a table is never there.
        if self.tables.0.join("relay_recipients").exists() {
            self.check_not_half(what, &outcome);
        }
        let status = self.program.run(&["status"]);
        let is_answer = matches!(status.code, Some(0..=3)) && !status.stderr.contains("panicked");
        assert!(
            is_answer,
            "{what}: status {:?}\n{}",
            status.code, status.stderr
        );
        assert!(
            is_done || status.code != Some(0),
            "{what}: status calls that well\n{}",
            status.stdout
        );
        mend();
        let healed = self.sync();
        assert_eq!(healed.code, Some(0), "{what}, mended: {}", healed.stderr);
        assert!(
            self.contents() == self.after,
            "{what}, mended: {:?}\n{}",
            self.names(),
            healed.stderr
        );
        assert_eq!(
            self.hook_log(),
            self.seen_by_hook,
            "{what}, mended: the hook"
        );
        let status = self.program.run(&["status"]);
        assert_eq!(status.code, Some(0), "{what}, mended: {}", status.stdout);
        outcome.code
    }

    fn names(&self) -> Vec<String> {
        self.contents().into_keys().collect()
    }

    fn mend(&self) {
        self.state.mend();
        self.tables.mend();
    }
}

/// Leaves less and less room, or more and more, until a run fits in.
#[track_caller]
fn check_full(scene: &Scene, what: &str, step: u64, fill: impl Fn(u64)) -> u64 {
    for (refused, room) in (0..4_000)
        .step_by(usize::try_from(step).expect("small"))
        .enumerate()
    {
        let what = format!("{what}, {room} left");
        let code = scene.check(&what, || fill(room), || scene.mend());
        if code == Some(0) {
            assert!(
                refused > 0,
                "{what}: there was room enough from the beginning"
            );
            return refused as u64;
        }
    }
    unreachable!("{what}: a run never fitted in")
}

fn check_all_full(name: &str, with_built: bool, step: u64) -> u64 {
    let Some(scene) = Scene::new(name, with_built) else {
        return 0;
    };
    let (state, tables) = (&scene.state, &scene.tables);
    // Memory is given in pages.
    let page = 4;
    check_full(&scene, "tables full", step * page, |room| {
        tables.leave(Some(room), None)
    }) + check_full(&scene, "state full", step * page, |room| {
        state.leave(Some(room), None)
    }) + check_full(&scene, "no inode for tables", 1, |inodes| {
        tables.leave(None, Some(inodes))
    }) + check_full(&scene, "no inode for state", 1, |inodes| {
        state.leave(None, Some(inodes))
    })
}

#[test]
fn a_full_disk_leaves_every_table_old_or_new() {
    let tried = check_all_full("storage-full", false, campaign::extent(2, 1));
    campaign::tell(
        tried,
        "amounts of free space or inodes in which a run did not fit",
    );
}

#[test]
fn a_full_disk_leaves_every_built_table_old_or_new() {
    let tried = check_all_full("storage-built", true, campaign::extent(24, 1));
    campaign::tell(
        tried,
        "amounts of free space or inodes in which postmap did not fit",
    );
}

#[test]
fn disks_that_are_read_only_or_gone() {
    let Some(scene) = Scene::new("storage-gone", false) else {
        return;
    };
    let (state, tables) = (&scene.state, &scene.tables);
    let codes = [
        scene.check("state read-only", || state.remount("ro"), || scene.mend()),
        scene.check("tables read-only", || tables.remount("ro"), || scene.mend()),
        scene.check(
            "both read-only",
            || {
                state.remount("ro");
                tables.remount("ro");
            },
            || scene.mend(),
        ),
        // The file system is not mounted; below it is an empty directory that belongs to the same account.
        scene.check(
            "tables not mounted",
            || scene.shell("mkdir elsewhere; mount --move tables elsewhere; rmdir tables"),
            || scene.shell("mkdir tables; mount --move elsewhere tables; rmdir elsewhere"),
        ),
        scene.check(
            "a file for the directory of tables",
            || scene.shell("mkdir elsewhere; mount --move tables elsewhere; rmdir tables; echo >tables"),
            || scene.shell("rm tables; mkdir tables; mount --move elsewhere tables; rmdir elsewhere"),
        ),
        scene.check(
            "a link into nothing for the directory of tables",
            || scene.shell("mkdir elsewhere; mount --move tables elsewhere; rmdir tables; ln -s nothing tables"),
            || scene.shell("rm tables; mkdir tables; mount --move elsewhere tables; rmdir elsewhere"),
        ),
        scene.check(
            "a file for the state",
            || scene.shell("mkdir elsewhere; mount --move state elsewhere; rmdir state; echo >state"),
            || scene.shell("rm state; mkdir state; mount --move elsewhere state; rmdir elsewhere"),
        ),
    ];
    let [
        state_alone,
        tables_alone,
        both,
        gone,
        file,
        link,
        state_file,
    ] = codes;
    assert_eq!(
        [
            state_alone,
            tables_alone,
            both,
            gone,
            file,
            link,
            state_file
        ],
        [
            Some(78),
            Some(73),
            Some(78),
            Some(73),
            Some(73),
            Some(73),
            Some(78)
        ]
    );
    campaign::tell(codes.len(), "disks that were read-only or gone");
}
