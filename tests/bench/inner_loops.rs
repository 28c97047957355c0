//! The inner loops, one by one: `cargo bench`. Whole runs beside what others use: `cargo run --release -p bench`.
//!
//! Each loop is reached through one small function here, so that a change of the program's own functions changes one
//! place.

#![allow(
    clippy::expect_used,
    reason = "a benchmark ends at the first thing that is not as it must be"
)]

#[allow(
    dead_code,
    reason = "the measuring program uses the parts that are not used here"
)]
#[path = "src/recipients.rs"]
mod recipients;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use rcptsync::config::{self, Config, FileSource, Format};
use rcptsync::current::SourceRecords;
use rcptsync::directory::{ber, message};
use rcptsync::domains::Domains;
use rcptsync::fold::Folding;
use rcptsync::records::Spool;
use rcptsync::snapshot::SourceProgress;
use rcptsync::source::{file, ldif};
use rcptsync::table::format::{self, Said};
use rcptsync::table::rows::{Facts, Rows, RowsBuilder};
use rcptsync::table::value::RowValues;
use rcptsync::table::wanted;
use rcptsync::time::Timestamp;

use recipients::{DOMAINS, Recipient};

const ROWS_COUNT: usize = 100_000;

/// They give about [`ROWS_COUNT`] rows.
const RECIPIENTS_COUNT: u64 = 33_000;

const PAGE_ENTRIES_COUNT: u64 = 1_000;

const VALUE: &str = "OK";

fn configuration() -> Config {
    let text = format!(
        "[domains]\nlist = {DOMAINS:?}\n\
         [source.corp]\nkind = \"list\"\npath = \"list\"\n\
         [table.t]\npath = \"t\"\nformats = [\"text\", \"cdb\"]\n"
    );
    config::parse(Path::new("/etc/rcptsync.toml"), &text).expect("a configuration")
}

fn export(directory: &Path) -> FileSource {
    let mut text = String::new();
    for recipient in recipients::first(RECIPIENTS_COUNT) {
        recipient.push_export(&mut text);
    }
    let path = directory.join("export.ldif");
    std::fs::write(&path, text).expect("a file of our own");
    FileSource {
        path,
        max_age: None,
    }
}

/// The records of an export in a file.
fn records(source: &FileSource) -> SourceRecords {
    let (mut spool, progress) = (Spool::in_memory(), SourceProgress::default());
    // A file that was written just now is not settled yet.
    let now = Timestamp::now().after(file::SETTLED * 2);
    let read = ldif::read(source, now, Instant::now(), &mut spool, &progress);
    SourceRecords::shown(read.expect("an export").take_records())
}

/// Keys in the order of the directory.
fn keys() -> Vec<String> {
    let recipients = (0..).map(Recipient::of);
    let keys = recipients.flat_map(|recipient| recipient.keys());
    keys.take(ROWS_COUNT).collect()
}

fn unsorted(keys: &[String]) -> RowsBuilder {
    let mut rows = RowsBuilder::default();
    for key in keys {
        rows.push(key.as_bytes(), Facts::default());
    }
    rows
}

fn render(format: Format, rows: &Rows) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::render(
        &Said::of(format, rows),
        &RowValues::alike(VALUE),
        &mut bytes,
    )
    .expect("within the limits of CDB");
    bytes
}

/// The messages of one page of entries, and the request that they answer.
fn page() -> (Vec<Vec<u8>>, message::Awaited) {
    const REQUEST_ID: u8 = 7;
    let element = |tag, parts: &[Vec<u8>]| ber::element(tag, &parts.concat());
    let text = |text: &[u8]| ber::element(ber::OCTET_STRING, text);
    let id = ber::element(ber::INTEGER, &[REQUEST_ID]);
    let attribute = |name: &str, values: &[Vec<u8>]| {
        let values: Vec<Vec<u8>> = values.iter().map(|value| text(value)).collect();
        element(
            ber::SEQUENCE,
            &[text(name.as_bytes()), element(0x31, &values)],
        )
    };
    let entries = recipients::first(PAGE_ENTRIES_COUNT).map(|recipient| {
        let values = recipient.proxy_addresses();
        let values: Vec<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
        let kind = recipient.recipient_type().to_string().into_bytes();
        let attributes = [
            attribute("objectGUID", &[recipient.guid().to_vec()]),
            attribute("proxyAddresses", &values),
            attribute("msExchRecipientTypeDetails", &[kind]),
        ];
        let attributes = element(ber::SEQUENCE, &attributes);
        let entry = element(0x64, &[text(recipient.dn().as_bytes()), attributes]);
        element(ber::SEQUENCE, &[id.clone(), entry])
    });
    // A search for everything below nothing: what matters is its number.
    let search = element(ber::SEQUENCE, &[id.clone(), ber::element(0x63, &[])]);
    let awaited = message::awaited_by(&search).expect("a search waits for answers");
    (entries.collect(), awaited)
}

fn decisions(criterion: &mut Criterion) {
    let config = configuration();
    let domains = Domains::exact(&config.domains.list);
    let directory = tempfile::tempdir().expect("a directory");
    let records = records(&export(directory.path()));
    let keys = keys();
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(RECIPIENTS_COUNT));
    group.bench_function("records to rows", |bencher| {
        bencher.iter(|| {
            wanted::rows(
                &config,
                &config.tables[0],
                &domains,
                &[&records],
                Folding::Unicode,
            )
        });
    });
    group.throughput(Throughput::Elements(ROWS_COUNT as u64));
    group.bench_function("sort", |bencher| {
        bencher.iter_batched(
            || unsorted(&keys),
            RowsBuilder::finish,
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn tables(criterion: &mut Criterion) {
    let rows = unsorted(&keys()).finish();
    let text = render(Format::Text, &rows);
    let cdb = render(Format::Cdb, &rows);
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(rows.len() as u64));
    for (name, format) in [("render text", Format::Text), ("render CDB", Format::Cdb)] {
        group.bench_function(name, |bencher| bencher.iter(|| render(format, &rows)));
    }
    for (name, format, bytes) in [
        ("read text", Format::Text, &text),
        ("read CDB", Format::Cdb, &cdb),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| format::read(format, bytes, Folding::Ascii).expect("our own table"));
        });
    }
    group.finish();
}

fn sources(criterion: &mut Criterion) {
    let (frames, awaited) = page();
    let directory = tempfile::tempdir().expect("a directory");
    let export = export(directory.path());
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(PAGE_ENTRIES_COUNT));
    group.bench_function("check a page of entries", |bencher| {
        bencher.iter(|| {
            for frame in &frames {
                let passed = message::check_response(frame, Some(awaited));
                black_box(passed.expect("an entry"));
            }
        });
    });
    group.throughput(Throughput::Elements(RECIPIENTS_COUNT));
    group.bench_function("parse LDIF", |bencher| bencher.iter(|| records(&export)));
    group.finish();
}

criterion_group!(
    name = inner_loops;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5));
    targets = decisions, tables, sources
);
criterion_main!(inner_loops);
