//! The configuration: every text is one, or all its problems are told.

use std::path::Path;

use rcptsync::config;

pub fn configuration(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    match config::parse(Path::new("/etc/rcptsync/rcptsync.toml"), text) {
        Ok(config) => {
            assert!(!config.sources.is_empty() && !config.tables.is_empty());
            for table in &config.tables {
                assert!(!table.formats.is_empty() && table.path.is_absolute());
                for format in &table.formats {
                    assert!(table.file(*format).is_absolute());
                }
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            let lines_count = text.matches('\n').count() + 1;
            for problem in &problems {
                assert!(problem.line <= lines_count, "{problem}");
                assert!(!problem.message.is_empty());
            }
            let lines = problems.iter().map(|problem| problem.line);
            let told: Vec<usize> = lines.filter(|line| *line > 0).collect();
            assert!(told.is_sorted(), "not in the order of the file: {told:?}");
        }
    }
}
