//! Which types of tables the Postfix on this machine can build.
//!
//! A type may be missing because its package is (Debian's `postfix-lmdb`), because Postfix was built without Berkeley DB
//! (RHEL 10, openSUSE, Alpine), or because Postfix 3.11 was told to put another type in its place (`postfix non-bdb`): then
//! `postmap hash:X` succeeds and writes `X.lmdb` or `X.cdb`. All this is asked before a run begins, so that it is told as what
//! it is, an error of the configuration, and not as a table that could not be written.

use super::{main_cf, run};
use crate::config::{MapType, Table};
use crate::error::{Failure, Result};
use crate::exit::Exit;

/// Why a type cannot be built here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unbuildable {
    #[error("postmap builds it, and no Postfix is configured on this machine")]
    NoPostfix,
    #[error("postmap builds it, and `{question}` does not answer{said}")]
    NoAnswer { question: String, said: String },
    #[error("the Postfix on this machine does not know the type; it knows {known}")]
    Unknown { known: String },
    #[error(
        "the Postfix on this machine puts {instead} in its place (non_bdb_migration_level = {level}): postmap would write \
         another file"
    )]
    Redirected { instead: String, level: String },
}

/// What Postfix says of its types.
#[derive(Clone, Debug, Default)]
struct MapTypes {
    /// Every type it knows.
    known: Vec<String>,
    /// Whether, and how, Berkeley DB is replaced. Before Postfix 3.11 there is no such thing.
    migration_level: Option<String>,
    /// What is put in the place of `hash`.
    default_database_type: Option<String>,
    /// What is put in the place of `btree`.
    default_cache_db_type: Option<String>,
}

/// Fails unless every format of the tables that postmap builds can be built here. Asks nothing where there is none.
pub fn require(tables: &[Table]) -> Result<()> {
    let of_table = |table: &'_ Table| {
        let types = table.formats.iter().filter_map(|format| format.map_type());
        types.collect::<Vec<_>>()
    };
    let mut told: Option<std::result::Result<MapTypes, Unbuildable>> = None;
    for table in tables {
        for map_type in of_table(table) {
            let told = told.get_or_insert_with(MapTypes::ask);
            let buildable = told.as_ref().map_err(Clone::clone);
            if let Err(why) = buildable.and_then(|types| types.check(map_type)) {
                return Err(failure(table, map_type, &why));
            }
        }
    }
    Ok(())
}

impl MapTypes {
    fn ask() -> std::result::Result<MapTypes, Unbuildable> {
        if !main_cf().exists() {
            return Err(Unbuildable::NoPostfix);
        }
        let known = answer(&["-m"])?;
        // One that this version does not know is passed over, with a warning that nobody needs to see.
        let settings = answer(&[
            "-x",
            "non_bdb_migration_level",
            "default_database_type",
            "default_cache_db_type",
        ])?;
        Ok(MapTypes::parse(&known, &settings))
    }

    fn parse(known: &str, settings: &str) -> MapTypes {
        let setting = |name: &str| {
            settings.lines().find_map(|line| {
                let (found, value) = line.split_once('=')?;
                (found.trim() == name).then(|| value.trim().to_owned())
            })
        };
        MapTypes {
            known: known.split_whitespace().map(str::to_owned).collect(),
            migration_level: setting("non_bdb_migration_level"),
            default_database_type: setting("default_database_type"),
            default_cache_db_type: setting("default_cache_db_type"),
        }
    }

    fn check(&self, map_type: MapType) -> std::result::Result<(), Unbuildable> {
        let replaced_by = match map_type {
            MapType::Hash => self.default_database_type.as_deref(),
            MapType::Btree => self.default_cache_db_type.as_deref(),
            MapType::Lmdb => None,
        };
        let level = self.migration_level.as_deref().unwrap_or_default();
        if map_type.is_berkeley_db() && !matches!(level, "" | "disable") {
            return Err(Unbuildable::Redirected {
                instead: replaced_by.unwrap_or("another type").to_owned(),
                level: level.to_owned(),
            });
        }
        if self.known.iter().any(|known| known == map_type.name()) {
            return Ok(());
        }
        Err(Unbuildable::Unknown {
            known: self.known.join(", "),
        })
    }
}

fn answer(arguments: &[&str]) -> std::result::Result<String, Unbuildable> {
    let no_answer = |said: &str| Unbuildable::NoAnswer {
        question: format!("postconf {}", arguments.join(" ")),
        said: super::program::introduced(said),
    };
    let output = run("postconf", arguments).ok_or_else(|| no_answer(""))?;
    if !output.status.success() {
        return Err(no_answer(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn failure(table: &Table, map_type: MapType, why: &Unbuildable) -> Box<Failure> {
    let name = map_type.name();
    let instead = |other: &str| {
        format!(
            "publish {other} instead: formats = [\"{other}\"] in [table.{}], and {other}:{} in main.cf",
            table.name,
            table.path.display()
        )
    };
    let next = match why {
        Unbuildable::NoPostfix => format!(
            "run rcptsync where Postfix is, or install it here, or {}",
            instead("cdb")
        ),
        Unbuildable::NoAnswer { .. } => {
            "`postconf -m` must work for the account that runs rcptsync".into()
        }
        Unbuildable::Unknown { .. } if map_type.is_berkeley_db() => format!(
            "this build of Postfix has no Berkeley DB, as on RHEL 10, openSUSE and Alpine; {}",
            instead("lmdb")
        ),
        Unbuildable::Unknown { .. } => format!(
            "install the package that brings {name} (Debian, Ubuntu, Fedora and RHEL: postfix-{name}), or {}",
            instead("cdb")
        ),
        Unbuildable::Redirected { instead: other, .. } if other == "cdb" => instead("cdb"),
        Unbuildable::Redirected { .. } => instead("lmdb"),
    };
    Box::new(Failure {
        exit: Exit::Configuration,
        what: format!("table {}: {name} cannot be built here", table.name),
        place: main_cf().display().to_string(),
        why: why.to_string(),
        in_force: Failure::NOTHING_TOUCHED.into(),
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN_12: &str = "btree\ncdb\ncidr\nenviron\nfail\nhash\ninline\nlmdb\ntexthash\n";
    const WITHOUT_BERKELEY_DB: &str = "cdb\ncidr\ninline\nlmdb\ntexthash\n";
    const DEFAULTS: &str = "default_database_type = lmdb\ndefault_cache_db_type = lmdb\n";

    #[track_caller]
    fn check(known: &str, settings: &str, map_type: MapType, expected: &str) {
        let checked = MapTypes::parse(known, settings).check(map_type);
        let found = checked.map_or_else(|why| why.to_string(), |()| "it can be built".into());
        assert!(found.contains(expected), "{known:?} {settings:?}: {found}");
    }

    #[test]
    fn a_type_can_be_built_or_it_is_said_why_not() {
        let built = "it can be built";
        for map_type in [MapType::Hash, MapType::Btree, MapType::Lmdb] {
            check(DEBIAN_12, "default_database_type = hash\n", map_type, built);
            check(
                "cdb\n",
                "",
                map_type,
                "does not know the type; it knows cdb",
            );
        }
        check(WITHOUT_BERKELEY_DB, DEFAULTS, MapType::Lmdb, built);
        check(
            WITHOUT_BERKELEY_DB,
            DEFAULTS,
            MapType::Hash,
            "does not know the type",
        );
    }

    #[test]
    fn what_postfix_3_11_puts_in_place_of_berkeley_db_is_recognised() {
        let level = |level: &str| format!("non_bdb_migration_level = {level}\n{DEFAULTS}");
        let is_replaced = "puts lmdb in its place";
        for redirect in ["enable-redirect", "enable-reindex"] {
            for known in [DEBIAN_12, WITHOUT_BERKELEY_DB] {
                check(known, &level(redirect), MapType::Hash, is_replaced);
                check(known, &level(redirect), MapType::Btree, is_replaced);
                check(known, &level(redirect), MapType::Lmdb, "it can be built");
            }
        }
        check(
            DEBIAN_12,
            &level("disable"),
            MapType::Hash,
            "it can be built",
        );
        check(DEBIAN_12, &level(""), MapType::Btree, "it can be built");
    }
}
