//! An installation in front of a run, to which it can be put back; what may be in force whatever happens to that run, and
//! what must be true once another run has healed it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::disk::Disk;
use super::reader::Reader;
use crate::common::calls::{self, Call, Ended, Fault, Point};
use crate::common::postfix::{Gateway, Options};
use crate::common::process::{command, succeed};
use crate::common::rcptsync::Rcptsync;
use crate::common::write_file;

/// Tables with their formats.
type Tables = &'static [(&'static str, &'static [&'static str])];

/// In every format that is a file.
const ALL: Tables = &[
    ("first", &["text", "cdb", "hash", "lmdb"]),
    ("second", &["text", "cdb"]),
    ("third", &["template"]),
];
/// In those that no other program builds.
const OWN: Tables = &[
    ("first", &["text", "cdb"]),
    ("second", &["text", "cdb"]),
    ("third", &["template"]),
];
/// In those that postmap builds.
const BUILT: Tables = &[("first", &["text", "hash", "lmdb"])];

/// Recipients of a large table: more than it takes for threads to share its work (`publish::prepare`).
const LARGE: usize = 6_000;

/// What stands in every file.
type Content = Vec<Option<Vec<u8>>>;

/// What is run, and what heals it.
#[derive(Clone, Copy, PartialEq)]
enum Verb {
    Sync,
    Rollback,
    Approve,
    /// A run whose publication a gateway contradicts.
    Contradicted,
}

pub struct Scene {
    /// Goes before the directory that it lies in.
    disk: Option<Disk>,
    pub program: Rcptsync,
    verb: Verb,
    arguments: Vec<String>,
    tables: Tables,
    reader: Reader,
    _gateway: Option<Gateway>,
    /// Where calls are listed, one place after the other; `None` is everywhere in the first thread.
    places: Vec<Option<PathBuf>>,
    is_meant: fn(&Call) -> bool,
    /// The pictures that may be in force, the first before the run; and the last, that must be in the end.
    pictures: Vec<Content>,
    after: Content,
    healed: Content,
    /// How the undisturbed run ends, what its record says of that, and the generations before and after it.
    pub code: i32,
    exits: Value,
    generations: [Value; 2],
    /// The foreign file whose original must be kept.
    foreign: Option<Vec<u8>>,
    /// What was told in the end.
    told: BTreeSet<String>,
}

/// Writes the list as a file that settled a while ago; a younger one is not believed yet.
fn list(program: &Rcptsync, numbers: std::ops::Range<usize>) {
    let text: String = numbers
        .chain(1..2)
        .map(|number| format!("person{number}@example.com\n"))
        .collect();
    let path = program.directory().join("people.list");
    write_file(&path, text);
    let file = std::fs::File::options().write(true).open(path);
    let settled = SystemTime::now() - Duration::from_secs(60);
    file.and_then(|file| file.set_modified(settled))
        .expect("a time of our own");
}

/// The files of tables, each with the type under which Postfix reads it.
fn files(tables: Tables) -> impl Iterator<Item = (String, Option<&'static str>)> {
    tables.iter().flat_map(|(name, formats)| {
        formats.iter().map(move |format| match *format {
            "text" => (format!("tables/{name}"), Some("texthash")),
            "cdb" => (format!("tables/{name}.cdb"), Some("cdb")),
            "hash" => (format!("tables/{name}.db"), Some("hash")),
            "lmdb" => (format!("tables/{name}.lmdb"), Some("lmdb")),
            _ => (format!("tables/{name}"), None),
        })
    })
}

/// Those that it copies: of Berkeley DB the octets are others each time.
fn files_for_the_hook(tables: Tables) -> String {
    let copied = files(tables).filter(|(_, map_type)| *map_type != Some("hash"));
    copied.map(|(file, _)| file).collect::<Vec<_>>().join(" ")
}

/// Where an installation lies.
#[derive(PartialEq)]
enum Place {
    Memory,
    SmallDisk,
}

fn install(name: &str, tables: Tables, reader: &Reader) -> Rcptsync {
    install_on(Place::Memory, name, tables, reader).0
}

fn install_on(
    place: Place,
    name: &str,
    tables: Tables,
    reader: &Reader,
) -> (Rcptsync, Option<Disk>) {
    let mut program = Rcptsync::in_memory(name);
    let disk = (place == Place::SmallDisk).then(|| Disk::mounted(program.directory()));
    if disk.is_some() {
        // What was made there is below the disk now.
        std::fs::create_dir(program.directory().join("tables")).expect("a directory of our own");
    }
    program.mail_config = Some(reader.instance.config_directory());
    let directory = program.directory().display().to_string();
    let script = |name: &str, text: &str| {
        let path = program.directory().join(name);
        write_file(&path, format!("cd {directory} && {text}\n"));
    };
    let files = files_for_the_hook(tables);
    script(
        "hook",
        &format!("cat {files} >hook.seen && sha256sum <hook.seen >>hook.log"),
    );
    script("tell", r#"echo "$RCPTSYNC_WHEN" >>told.log"#);
    std::fs::create_dir(program.directory().join("metrics")).expect("a directory of our own");
    let sections: String = tables
        .iter()
        .map(|(name, formats)| {
            let template = match formats.contains(&"template") {
                true => "template = \"exim-lsearch\"\n",
                false => "",
            };
            format!(
                "[table.{name}]\npath = \"{directory}/tables/{name}\"\nformats = {formats:?}\n{template}folding = \"unicode\"\n"
            )
        })
        .collect();
    program.write_config(&format!(
        "state_dir = \"{directory}/state\"\n[domains]\nlist = [\"example.com\"]\n\
         [source.people]\nkind = \"list\"\npath = \"{directory}/people.list\"\n{sections}\
         [metrics]\ntextfile = \"{directory}/metrics/rcptsync.prom\"\n\
         [[hook]]\nname = \"told\"\nrun = [\"/bin/sh\", \"{directory}/hook\"]\n\
         [[hook]]\nname = \"tell\"\nrun = [\"/bin/sh\", \"{directory}/tell\"]\nwhen = [\"refused\", \"failed\", \"owed\", \"recovered\"]\n",
    ));
    (program, disk)
}

impl Scene {
    /// Two publications of tables in every format, one of them edited by hand since, and a source that moved on.
    pub fn of_change(name: &str) -> Scene {
        Scene::of_change_of(name, ALL, 30)
    }

    /// The same without the formats that postmap builds.
    pub fn of_own_change(name: &str) -> Scene {
        Scene::of_change_of(name, OWN, 30)
    }

    /// The same with those alone, tried at what is done for them: at the places where postmap works, in whichever of the two
    /// programs comes to one, and where it is started and waited for.
    pub fn of_built_change(name: &str) -> Scene {
        let mut scene = Scene::of_change_of(name, BUILT, 30);
        for bench in [".first.db.rcptsync-build", ".first.lmdb.rcptsync-build"] {
            let suffix = bench.split('.').nth(2).expect("a suffix");
            let files = ["", "/table", &format!("/table.{suffix}")]
                .map(|file| scene.path(&format!("tables/{bench}{file}")));
            scene.places.extend(files.map(Some));
        }
        scene.places.push(Some("/usr/sbin/postmap".into()));
        scene.is_meant = |call| {
            let is_of_a_child = ["clone3", "wait4", "pipe2", "kill", "execve"];
            let words = ["rcptsync-build", ".db", ".lmdb"];
            call.place.is_some()
                || is_of_a_child.contains(&call.name.as_str())
                || words.iter().any(|word| call.told.contains(word))
        };
        scene
    }

    /// The same with tables that several threads write and prove, tried at the files of one of them and their directory.
    pub fn of_large_change(name: &str) -> Scene {
        let mut scene = Scene::of_change_of(name, OWN, LARGE);
        let places = [
            "tables/.first.rcptsync-new",
            "tables/.first.cdb.rcptsync-new",
            "tables",
        ];
        scene.places = places.map(|place| Some(scene.path(place))).into();
        scene
    }

    /// A change on a disk that has room for little else.
    pub fn on_small_disk(name: &str) -> Scene {
        Scene::of_change_on(Place::SmallDisk, name, OWN, 30)
    }

    pub fn on_small_disk_with_built(name: &str) -> Scene {
        Scene::of_change_on(Place::SmallDisk, name, BUILT, 30)
    }

    fn of_change_of(name: &str, tables: Tables, count: usize) -> Scene {
        Scene::of_change_on(Place::Memory, name, tables, count)
    }

    fn of_change_on(place: Place, name: &str, tables: Tables, count: usize) -> Scene {
        let reader = Reader::new();
        let (program, disk) = install_on(place, name, tables, &reader);
        list(&program, 0..count);
        program.run(&["sync"]).expect_code(0);
        let edited = tables.last().map(|(name, _)| *name);
        let edited = edited.filter(|name| *name != "third").unwrap_or("second");
        let path = program.directory().join("tables").join(edited);
        let mut foreign = std::fs::read(&path).expect("a table");
        foreign.extend_from_slice(b"stranger@example.com OK\n");
        std::fs::write(&path, &foreign).expect("a table");
        list(&program, 1..count + 3);
        let mut scene = Scene::set(program, tables, reader, Verb::Sync, &["sync"]);
        scene.disk = disk;
        scene.foreign = Some(foreign);
        scene.with_places_of_others();
        scene.rehearsed(65)
    }

    /// Nothing at all, not even a state directory.
    pub fn of_first_run(name: &str) -> Scene {
        let reader = Reader::new();
        let program = install(name, OWN, &reader);
        list(&program, 0..30);
        let mut scene = Scene::set(program, OWN, reader, Verb::Sync, &["sync"]);
        scene.with_places_of_others();
        scene.rehearsed(0)
    }

    /// Two generations, and going back to the first.
    pub fn of_rollback(name: &str) -> Scene {
        let reader = Reader::new();
        let program = install(name, OWN, &reader);
        for numbers in [0..30, 1..33] {
            list(&program, numbers);
            program.run(&["sync"]).expect_code(0);
        }
        Scene::set(program, OWN, reader, Verb::Rollback, &["rollback", "1"]).rehearsed(0)
    }

    /// Removals that wait, and their approval.
    pub fn of_approval(name: &str) -> Scene {
        let reader = Reader::new();
        let program = install(name, &OWN[..1], &reader);
        list(&program, 0..30);
        program.run(&["sync"]).expect_code(0);
        list(&program, 0..10);
        program.run(&["sync"]).expect_code(65);
        let status = program.run(&["status", "--format", "json"]).json();
        let holds = status["holds"].as_array().expect("a list");
        let mut arguments = vec!["approve"];
        // One digest an approval: the hold of the table, without which nothing flows.
        arguments.extend(holds.first().and_then(|hold| hold["digest"].as_str()));
        assert_eq!(holds.len(), 1, "{status:#}");
        Scene::set(program, &OWN[..1], reader, Verb::Approve, &arguments).rehearsed(0)
    }

    /// A gateway that does not know whom a run publishes.
    pub fn of_contradiction(name: &str) -> Scene {
        let reader = Reader::new();
        let copy = reader.instance.config_directory().join("copy");
        write_file(&copy, "nobody@example.com OK\n");
        reader.instance.postmap_build("cdb", &copy);
        let gateway = Gateway::start(&copy, "cdb", &Options::default());
        let program = install(name, &OWN[..1], &reader);
        list(&program, 0..30);
        program.run(&["sync"]).expect_code(0);
        let known = program.directory().join("tables/first");
        std::fs::copy(known, &copy).expect("a copy");
        reader.instance.postmap_build("cdb", &copy);
        let more = format!(
            "[verify]\npostmap = false\nsamples = 3\npatience = \"110ms\"\nsmtp = \"127.0.0.1:{}\"\n",
            gateway.port()
        );
        let path = program.config_file();
        let text = std::fs::read_to_string(&path).expect("our own file");
        write_file(&path, text + &more);
        list(&program, 0..33);
        let arguments = ["sync"];
        let mut scene = Scene::set(program, &OWN[..1], reader, Verb::Contradicted, &arguments);
        scene._gateway = Some(gateway);
        scene.rehearsed(69)
    }

    /// A run that heals one which was killed at the `number`-th call that is meant by `is_meant`.
    pub fn of_recovery(name: &str, is_meant: impl Fn(&Call) -> bool, number: usize) -> Scene {
        let scene = Scene::of_own_change(name);
        let calls = scene.calls();
        let mut meant = calls.into_iter().filter(is_meant);
        let call = meant.nth(number).expect("so many such calls");
        let fault = Fault::Kill;
        let ended = scene.run_with_fault(&Point { call, fault });
        assert!(ended.is_reached && ended.code.is_none(), "{ended:?}");
        scene.keep();
        scene
    }

    fn set(
        program: Rcptsync,
        tables: Tables,
        reader: Reader,
        verb: Verb,
        arguments: &[&str],
    ) -> Scene {
        Scene {
            disk: None,
            program,
            verb,
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            tables,
            reader,
            _gateway: None,
            places: vec![None],
            is_meant: |_| true,
            pictures: Vec::new(),
            after: Vec::new(),
            healed: Vec::new(),
            code: 0,
            exits: Value::Null,
            generations: [Value::Null, Value::Null],
            foreign: None,
            told: BTreeSet::new(),
        }
    }

    /// Where a source is read and its records are written, in a thread of its own; the hooks.
    fn with_places_of_others(&mut self) {
        let places = [
            "people.list",
            "state/source/people",
            "state/source/people/.records-0.new",
            "/bin/sh",
            "hook",
            "hook.seen",
            "hook.log",
            "tell",
            "told.log",
        ];
        let places = places.map(|place| Some(self.path(place)));
        self.places.extend(places);
    }

    /// Keeps what stands now, and runs undisturbed once.
    fn rehearsed(mut self, code: i32) -> Scene {
        self.keep();
        self.code = code;
        self.pictures.push(self.content("before"));
        self.generations[0] = self.head()["generation"].clone();
        self.run(&self.arguments()).expect_code(code);
        self.after = self.content("after");
        if self.verb == Verb::Contradicted {
            // What is put back was published in between: all that is said of it is in the history.
            self.pictures.push(self.published_in_between());
        }
        self.pictures.push(self.after.clone());
        self.exits = self.last_run()["exits"].clone();
        self.generations[1] = self.head()["generation"].clone();
        if self.verb == Verb::Approve {
            self.run(&["sync"]).expect_code(0);
        }
        self.healed = self.content("healed");
        self.pictures.push(self.healed.clone());
        self.told = self.words_told();
        assert!(!self.lines("hook.log").is_empty());
        self
    }

    fn published_in_between(&self) -> Content {
        self.reset();
        let path = self.program.config_file();
        let text = std::fs::read_to_string(&path).expect("our own file");
        let (without, _) = text.split_once("[verify]").expect("a section");
        write_file(&path, without);
        self.run(&["sync"]).expect_code(0);
        let content = self.content("in between");
        write_file(&path, &text);
        self.reset();
        self.run(&self.arguments()).expect_code(self.code);
        content
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    fn run(&self, arguments: &[&str]) -> crate::common::rcptsync::Outcome {
        self.program.run(arguments)
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.program.directory().join(part)
    }

    #[track_caller]
    fn content(&self, what: &str) -> Content {
        files(self.tables)
            .map(|(file, map_type)| self.reader.read(&self.path(&file), map_type, what))
            .collect()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn words_told(&self) -> BTreeSet<String> {
        let lines = self.lines("told.log");
        let words = lines.iter().flat_map(|line| line.split(' '));
        words.map(str::to_owned).collect()
    }

    fn head(&self) -> Value {
        let text = std::fs::read(self.path("state/head.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn last_run(&self) -> Value {
        let last = self.lines("state/runs.jsonl").pop().unwrap_or_default();
        serde_json::from_str(&last).unwrap_or_default()
    }

    const PARTS: [&'static str; 5] = ["state", "tables", "metrics", "hook.log", "told.log"];

    /// Keeps what stands now as that in front of the run.
    fn keep(&self) {
        let kept = self.path("kept");
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir(&kept).expect("a directory of our own");
        for part in Scene::PARTS.map(|part| self.path(part)) {
            if part.exists() {
                succeed(command("cp").arg("-a").arg(part).arg(&kept));
            }
        }
    }

    pub fn reset(&self) {
        let script = format!(
            "rm -rf hook.seen {} && cp -a kept/. .",
            Scene::PARTS.join(" ")
        );
        let mut shell = command("sh");
        succeed(
            shell
                .args(["-c", &script])
                .current_dir(self.program.directory()),
        );
    }

    fn words(&self) -> Command {
        let mut words = Command::new(env!("CARGO_BIN_EXE_rcptsync"));
        words
            .arg("--config")
            .arg(self.program.config_file())
            .arg("--quiet")
            .args(&self.arguments)
            .env_remove("RCPTSYNC_CONFIG")
            .envs(
                self.program
                    .mail_config
                    .iter()
                    .map(|path| ("MAIL_CONFIG", path)),
            );
        words
    }

    /// The calls of an undisturbed run that are to be tried.
    pub fn calls(&self) -> Vec<Call> {
        let log = self.path("strace.log");
        let of_place = |place: &Option<PathBuf>| {
            self.reset();
            let place = place.as_deref();
            calls::list(&self.words(), &log, place, "rcptsync.toml", self.code)
        };
        let calls: Vec<Call> = self.places.iter().flat_map(of_place).collect();
        let meant = calls.into_iter().filter(self.is_meant);
        let meant: Vec<Call> = meant
            .filter(|call| !self.is_taken_for_an_end(call))
            .collect();
        assert!(meant.len() >= 15, "strace saw next to nothing: {meant:?}");
        meant
    }

    /// A shell that cannot read its script ends with 0, as at its end: a hook that says it is done is believed.
    fn is_taken_for_an_end(&self, call: &Call) -> bool {
        let scripts = ["hook", "tell"].map(|script| Some(self.path(script)));
        call.name == "read" && scripts.contains(&call.place)
    }

    /// Runs below another program.
    pub fn run_under(&self, wrapper: &[&str]) -> Ended {
        self.reset();
        let words = [&["--quiet"], self.arguments().as_slice()].concat();
        let outcome = self.program.run_under(wrapper, &words);
        Ended {
            code: outcome.code.filter(|code| *code < 128),
            is_reached: true,
            stderr: outcome.stderr,
        }
    }

    /// Runs while so many pages of the disk are left.
    pub fn run_on_full_disk(&self, pages: u64) -> Ended {
        let disk = self.disk.as_ref().expect("a scene on a small disk");
        self.reset();
        disk.leave(pages);
        let words = [&["--quiet"], self.arguments().as_slice()].concat();
        let outcome = self.program.run(&words);
        disk.empty();
        Ended {
            code: outcome.code,
            is_reached: true,
            stderr: outcome.stderr,
        }
    }

    pub fn run_with_fault(&self, point: &Point) -> Ended {
        self.reset();
        calls::run_with_fault(&self.words(), &self.path("strace.log"), point)
    }

    /// Whether the last run recorded nothing but what an undisturbed one does: 65 hides a frozen source behind it.
    fn is_said_to_be_done(&self, code: Option<i32>) -> bool {
        code == Some(0) || (code == Some(self.code) && self.last_run()["exits"] == self.exits)
    }

    /// Whether the last run is the one that came upon a fault.
    fn is_recorded(&self) -> bool {
        // A line that the disk cut is none.
        let last = self.lines("state/runs.jsonl").pop().unwrap_or_default();
        let before = self
            .lines("kept/state/runs.jsonl")
            .pop()
            .unwrap_or_default();
        last != before && !self.last_run().is_null()
    }

    /// What must be true as soon as the run has ended, however it did.
    #[track_caller]
    pub fn check_not_half(&self, ended: &Ended, what: &str) {
        let now = self.content(what);
        for (at, (file, _)) in files(self.tables).enumerate() {
            let is_known = self.pictures.iter().any(|picture| picture[at] == now[at]);
            assert!(is_known, "{what}: {file} is half\n{}", ended.stderr);
        }
        if let Some(code) = ended.code {
            // A hold whose rows cannot be read is none that can be approved.
            let is_unknown = self.verb == Verb::Approve && code == 64;
            assert!(
                matches!(code, 0 | 65 | 69 | 73 | 74 | 75 | 77 | 78) || is_unknown,
                "{what}: ended with {code}\n{}",
                ended.stderr
            );
        }
        if self.is_said_to_be_done(ended.code) {
            let said = format!("{what}: exit {:?}\n{}", ended.code, ended.stderr);
            assert!(now == self.after, "{said}: an old table");
            if self.verb == Verb::Approve {
                assert!(self.is_approved(), "{said}: not approved");
            }
        }
        let metrics = std::fs::read_to_string(self.path("metrics/rcptsync.prom"));
        let is_whole = |text: String| text.contains("rcptsync_build_info") && text.ends_with('\n');
        assert!(
            metrics.is_ok_and(is_whole) || self.verb == Verb::Sync,
            "{what}: metrics"
        );
        self.check_status(ended, &now, what);
    }

    /// Whether `status` tells what is.
    #[track_caller]
    fn check_status(&self, ended: &Ended, now: &Content, what: &str) {
        let outcome = self.run(&["status", "--format", "json"]);
        let said = format!(
            "{what}: {}\n{}{}",
            ended.stderr, outcome.stdout, outcome.stderr
        );
        assert!(
            matches!(outcome.code, Some(0..=3)) && !outcome.stderr.contains("panicked"),
            "{said}"
        );
        let status = outcome.json();
        let head = self.head();
        let is_told = |words: &str| {
            let findings = status["findings"].as_array().into_iter().flatten();
            findings
                .clone()
                .any(|finding| finding["text"].to_string().contains(words))
        };
        let pending = head["pending"].as_array().map_or(0, Vec::len);
        assert_eq!(is_told("decided and not done"), pending > 0, "{said}");
        if pending == 0 {
            // A table that could not be read stays as it was while others are published.
            self.check_tables_whole(now, &said);
            let is_whole = ended.code.is_none() || self.is_said_to_be_done(ended.code);
            // Without a head.json it says so, and counts on from the files that are there.
            let [before, after] = &self.generations;
            let is_whole = is_whole && !head.is_null();
            if is_whole && status["generation"] == *after {
                assert!(*now == self.after, "{said}\nof another generation");
            } else if is_whole && status["generation"] == *before {
                assert!(*now == self.pictures[0], "{said}\nof another generation");
            }
        }
        let owed = status["hooks_owed"].as_array().expect("a list");
        let was_published = head["published"].as_u64().unwrap_or(0) > 0;
        if owed.is_empty() && was_published && *now == self.after && *now != self.pictures[0] {
            let seen = self.lines("hook.log").pop();
            assert_eq!(seen, self.hook_would_see(), "{said}\nno hook owed");
        }
        if let Some(code) = ended.code.filter(|_| self.is_recorded()) {
            assert_eq!(status["runs"][0]["code"], code, "{said}");
        }
    }

    /// All files of a table are of one picture.
    #[track_caller]
    fn check_tables_whole(&self, now: &Content, said: &str) {
        for (table, _) in self.tables {
            let path = format!("tables/{table}");
            let of_table = |content: &Content| -> Content {
                let both = files(self.tables).zip(content);
                let both = both.filter(|((file, _), _)| {
                    Path::new(file).with_extension("") == Path::new(&path)
                });
                both.map(|(_, content)| content.clone()).collect()
            };
            let now = of_table(now);
            let is_whole = self.pictures.iter().any(|picture| of_table(picture) == now);
            assert!(is_whole, "{said}\n{table} is a mixture");
        }
    }

    fn hook_would_see(&self) -> Option<String> {
        let script = format!("cat {} | sha256sum", files_for_the_hook(self.tables));
        let mut shell = command("sh");
        let output = succeed(
            shell
                .args(["-c", &script])
                .current_dir(self.program.directory()),
        );
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().last().map(str::to_owned)
    }

    fn is_approved(&self) -> bool {
        let status = self.run(&["status", "--format", "json"]).json();
        let holds = status["holds"].as_array().expect("a list");
        holds.iter().all(|hold| !hold["approved_at"].is_null())
    }

    /// One plain run, and it is as if nothing had happened.
    #[track_caller]
    pub fn check_healed(&self, what: &str) {
        match self.verb {
            Verb::Sync => self.heal(&["sync"], &[self.code], what),
            Verb::Rollback => {
                self.check_decided(what);
                self.heal(&self.arguments(), &[self.code], what);
            }
            Verb::Approve => {
                if !self.is_approved() {
                    self.heal(&self.arguments(), &[0], what);
                }
                self.heal(&["sync"], &[0], what);
            }
            Verb::Contradicted => self.heal(&["sync"], &[65, 69], what),
        }
        let now = self.content(what);
        for ((file, _), (now, healed)) in files(self.tables).zip(now.iter().zip(&self.healed)) {
            assert!(now == healed, "{what}: {file} is not what it should be");
        }
        let head = self.head();
        assert_eq!(
            head["hooks"]["told"], head["published"],
            "{what}: a hook is owed"
        );
        assert_eq!(head["pending"], serde_json::json!([]), "{what}");
        assert_eq!(
            self.lines("hook.log").pop(),
            self.hook_would_see(),
            "{what}: the hook saw another table last"
        );
        let told = self.words_told();
        assert!(
            told.is_superset(&self.told),
            "{what}: told {told:?}, not {:?}",
            self.told
        );
        self.check_nothing_left_over(what, &head);
        self.check_originals(what);
    }

    #[track_caller]
    fn heal(&self, arguments: &[&str], codes: &[i32], what: &str) {
        let run = self.run(arguments);
        assert!(
            run.code.is_some_and(|code| codes.contains(&code)),
            "{what}: {arguments:?} ended with {:?}\n{}{}",
            run.code,
            run.stdout,
            run.stderr
        );
    }

    /// A plain run neither carries out what was not decided, nor publishes what was undone.
    #[track_caller]
    fn check_decided(&self, what: &str) {
        let run = self.run(&["sync"]);
        let expected = match run.code {
            Some(0) => self.pictures.first(),
            Some(65) => Some(&self.after),
            code => unreachable!("{what}: {code:?}\n{}{}", run.stdout, run.stderr),
        };
        assert!(
            Some(&self.content(what)) == expected,
            "{what}: exit {:?}",
            run.code
        );
    }

    /// Originals are kept of what somebody else wrote, and of nothing that a run published or decided.
    #[track_caller]
    fn check_originals(&self, what: &str) {
        let names = self.names("state/generation");
        let names = names.iter().filter(|name| name.contains(".original."));
        let kept = names.map(|name| std::fs::read(self.path("state/generation").join(name)).ok());
        let kept: Vec<Option<Vec<u8>>> = kept.collect();
        let foreign: Vec<Option<Vec<u8>>> = self.foreign.iter().cloned().map(Some).collect();
        assert!(kept == foreign, "{what}: {} originals are kept", kept.len());
    }

    #[track_caller]
    fn check_nothing_left_over(&self, what: &str, head: &Value) {
        let in_directory = |file: (String, _)| file.0.replace("tables/", "");
        let mut expected: Vec<String> = files(self.tables).map(in_directory).collect();
        expected.sort();
        assert_eq!(self.names("tables"), expected, "{what}");
        assert_eq!(self.names("metrics"), ["rcptsync.prom"], "{what}");
        let mut expected: Vec<String> = self
            .tables
            .iter()
            .map(|(table, _)| format!("{table}-{}", head["tables"][table]["ledger"]))
            .collect();
        expected.sort();
        assert_eq!(self.names("state/ledger"), expected, "{what}");
        let base = format!("base-{}", head["sources"]["people"]["base"]);
        assert_eq!(self.names("state/source/people"), [base], "{what}");
        let holds = head["holds"].as_object().expect("holds");
        let holds: Vec<&String> = holds.keys().collect();
        assert_eq!(
            self.names("state/hold").iter().collect::<Vec<_>>(),
            holds,
            "{what}"
        );
        let last = head["generation"].as_u64().expect("a number");
        for name in self.names("state/generation") {
            let number = name
                .split('.')
                .next()
                .and_then(|number| number.parse::<u64>().ok());
            assert!(
                number.is_some_and(|number| number <= last),
                "{what}: generation/{name}"
            );
        }
        let known = "generation head.json hold ledger lock notified.json runs.jsonl source";
        for name in self.names("state") {
            assert!(
                known.split(' ').any(|known| known == name),
                "{what}: state/{name}"
            );
        }
    }

    fn names(&self, part: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(part))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Whether a call renames a table.
pub fn is_rename_of_table(call: &Call) -> bool {
    call.name == "renameat"
        && call.told.contains("rcptsync-new\", ")
        && call.told.contains("/tables>")
}

/// Whether a call renames a file of this name.
pub fn is_rename_to(call: &Call, name: &Path) -> bool {
    call.name == "rename" && call.told.contains(&format!("{}\")", name.display()))
}
