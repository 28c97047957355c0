//! A table in the words of another mail system: a Jinja template, with our rows (<https://docs.rs/minijinja>).
//!
//! A template says in its first comment how its reader wants texts escaped (`{# escape: exim #}`, [`Form`]). Whatever it
//! prints of a row passes through that escape, whether it asks for that or not, so that no address can end its line, begin
//! another or stand for more than itself. Keys that the reader cannot be told never reach the template. It knows no
//! files, no other templates and no time, its steps are counted, and a name that does not exist is an error.
//!
//! Rows are handed over one by one; neither they nor the text are ever held. A template whose text the form reads back
//! as the rows that went in (tried when it is read in) is proven like every other format; another has its octets alone.
//!
//! Invariant: the same rows and the same template give the same bytes.

mod form;
mod shipped;

pub use form::Form;
pub use shipped::{Shipped, shipped};

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, UndefinedBehavior};

use crate::address::split_external;
use crate::config::Format;
use crate::keys::domain_part;
use crate::state::digest;
use crate::table::format::{KeyValue, ReadError, RenderError};
use crate::table::rows::{Facts, Row, Rows, RowsBuilder};

/// More octets are no template but a mistake.
const TEMPLATE_OCTETS_MAX: usize = 1 << 20;

/// Steps that a template may take beside those for its rows.
const STEPS_ALWAYS: u64 = 1_000_000;

/// Steps a row: a shipped template takes a few tens.
const STEPS_A_ROW: u64 = 1_000;

/// A template that can be rendered.
#[derive(Clone, Debug)]
pub struct Template {
    /// As the configuration names it.
    name: String,
    form: Form,
    digest: String,
    /// Whether the form reads what the template writes.
    is_readable: bool,
    environment: Arc<Environment<'static>>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TemplateError {
    /// From 1.
    pub line: usize,
    /// What, and what would be right.
    pub message: String,
}

impl Template {
    /// Takes a template and tries it with a few rows.
    pub fn new(name: &str, text: &str) -> Result<Template, TemplateError> {
        let error = |line, message| TemplateError { line, message };
        if text.len() > TEMPLATE_OCTETS_MAX {
            return Err(error(1, "it is larger than 1 MiB".into()));
        }
        let form = form_of(text).map_err(|message| error(1, message))?;
        let mut template = Template {
            name: name.to_owned(),
            form,
            digest: digest(text.as_bytes()),
            is_readable: false,
            environment: Arc::new(environment(form, text).map_err(|error| told(&error))?),
        };
        let (rows, value) = (trial_rows(form), "OK");
        let mut written = Vec::new();
        let rendered = template.rendered(&rows, value, &mut written);
        rendered.map_err(|error| told(&error))?;
        let read = template.read(&written, value.as_bytes());
        template.is_readable = read.is_ok_and(|found| {
            (found.iter().map(|(key, _)| key.as_slice())).eq(rows.keys())
                && found.iter().all(|(_, found)| found == value.as_bytes())
        });
        Ok(template)
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it escapes.
    pub fn form(&self) -> Form {
        self.form
    }

    /// SHA-256 of its text: what was written with another one is written anew.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether rows can be read from a file of this kind.
    pub fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Writes the text.
    pub fn render(
        &self,
        rows: &Rows,
        value: &str,
        out: &mut impl Write,
    ) -> Result<(), RenderError> {
        self.rendered(rows, value, out).map_err(|error| {
            // What went wrong with the file says more than that something did.
            let of_file = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<io::Error>())
                .filter(|_| error.kind() == ErrorKind::WriteFailure);
            match of_file {
                Some(of_file) => io::Error::new(of_file.kind(), of_file.to_string()).into(),
                None => RenderError::Template(format!("{}: {}", self.name, told(&error))),
            }
        })
    }

    fn rendered(
        &self,
        rows: &Rows,
        value: &str,
        out: &mut impl Write,
    ) -> Result<(), minijinja::Error> {
        let mut environment = Environment::clone(&self.environment);
        let steps = STEPS_A_ROW.saturating_mul(rows.len() as u64);
        environment.set_fuel(Some(steps.saturating_add(STEPS_ALWAYS)));
        let shown = Shown {
            rows: rows.clone(),
            form: self.form,
            value: if self.form.has_plain_values() {
                Value::from_safe_string(value.to_owned())
            } else {
                Value::from(value)
            },
        };
        let context = minijinja::context! {
            rows => Value::make_object_iterable(shown.clone(), Shown::each),
            domains => Value::make_object_iterable(shown.clone(), Shown::domains),
            closed_domains => Value::make_object_iterable(shown, Shown::closed_domains),
        };
        environment
            .get_template(TEMPLATE)?
            .render_captured_to(context, out)
            .map(drop)
    }

    /// The keys and values of a file that the form can read. Where it has no values, every row has `value`.
    pub fn read(&self, bytes: &[u8], value: &[u8]) -> Result<Vec<KeyValue>, ReadError> {
        let mut rows = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.each_row(bytes, |key, found| {
            if seen.insert(key.to_vec()) {
                rows.push((key.to_vec(), found.unwrap_or(value).to_vec()));
            }
        })?;
        Ok(rows)
    }

    /// Tells every row of a file as it is read, a key that stands there twice both times.
    pub fn each_row(
        &self,
        input: impl BufRead,
        each: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), ReadError> {
        self.form.each_row(input, each)
    }

    /// Whether the reader finds a key, and by it nothing else.
    pub fn can_say(&self, key: &[u8]) -> bool {
        self.form.can_say(key)
    }
}

/// What the one template of an environment is called there.
const TEMPLATE: &str = "template";

fn environment(form: Form, text: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::empty();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // So that what was printed into a variable is not escaped twice.
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("form".into()));
    environment.set_formatter(move |out, _, value| print(form, out, value));
    environment.add_filter("replace", |text: String, from: String, to: String| {
        text.replace(&from, &to)
    });
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_template_owned(TEMPLATE, text.to_owned())?;
    Ok(environment)
}

/// Prints what stands between `{{` and `}}`, whatever it is.
fn print(form: Form, out: &mut Output<'_>, value: &Value) -> Result<(), minijinja::Error> {
    let refuse = |why: &str| {
        let message = format!("{value:?} is not printed: {why}");
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    };
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let Some(text) = value.as_str() else {
        if value.kind() == ValueKind::Number {
            return Ok(out.write_str(&value.to_string())?);
        }
        return refuse("only texts and numbers are");
    };
    if value.is_safe() {
        return Ok(out.write_str(text)?);
    }
    match form.escape(text) {
        Ok(escaped) => Ok(out.write_str(&escaped)?),
        Err(why) => refuse(why),
    }
}

/// The form that the first comment names.
fn form_of(text: &str) -> Result<Form, String> {
    let names = Form::ALL.map(Form::name).join(", ");
    let missing = || {
        format!(
            "its first line must say how its reader wants texts escaped: {{# escape: FORM #}}, with one of {names}"
        )
    };
    let comment = text
        .strip_prefix("{#")
        .and_then(|rest| rest.split("#}").next());
    let words = comment.ok_or_else(missing)?;
    let mut words = words.trim_start_matches('-').split_whitespace();
    if words.next() != Some("escape:") {
        return Err(missing());
    }
    let name = words.next().unwrap_or_default();
    let found = Form::ALL.into_iter().find(|form| form.name() == name);
    found.ok_or_else(|| format!("\"{name}\" is none of {names}"))
}

fn told(error: &minijinja::Error) -> TemplateError {
    let detail = error.detail().map(|detail| format!(": {detail}"));
    TemplateError {
        line: error.line().unwrap_or(1),
        message: format!("{}{}", error.kind(), detail.unwrap_or_default()),
    }
}

/// A few rows of every sort that the form can say.
fn trial_rows(form: Form) -> Rows {
    let mut rows = RowsBuilder::default();
    let keys = [
        "\"john doe\"@example.com",
        "@example.org",
        "anna@example.com",
        "o'brien+x@sub.example.com",
    ];
    for key in keys.iter().filter(|key| form.can_say(key.as_bytes())) {
        rows.push(key.as_bytes(), Facts::default());
    }
    rows.finish()
}

/// What a template is shown.
#[derive(Clone, Debug)]
struct Shown {
    rows: Rows,
    form: Form,
    value: Value,
}

impl Shown {
    fn said(&self) -> impl Iterator<Item = Row<'_>> + Send + Sync {
        self.rows
            .iter()
            .filter(|row| self.form.can_say(row.key) && row.facts().is_in(Format::Template))
    }

    /// The value of a row.
    fn value_of(&self, _row: &Row<'_>) -> Value {
        self.value.clone()
    }

    fn each(&self) -> Box<dyn Iterator<Item = Value> + Send + Sync + '_> {
        Box::new(self.said().filter_map(|row| {
            // What is said is text.
            let key = std::str::from_utf8(row.key).ok()?;
            Some(Value::from_object(Printed {
                key: key.into(),
                value: self.value_of(&row),
            }))
        }))
    }

    /// Each domain once, in byte order.
    fn domains(&self) -> Box<dyn Iterator<Item = Value> + Send + Sync + '_> {
        let domains: BTreeSet<&[u8]> = self.said().map(|row| domain_part(row.key)).collect();
        Box::new(domains.into_iter().map(text))
    }

    /// The domains of which only the addresses listed are taken.
    fn closed_domains(&self) -> Box<dyn Iterator<Item = Value> + Send + Sync + '_> {
        let mut domains = BTreeSet::new();
        let mut open = BTreeSet::new();
        for row in self.said() {
            let domain = domain_part(row.key);
            domains.insert(domain);
            if row.key.starts_with(b"@") {
                open.insert(domain);
            }
        }
        domains.retain(|domain| !open.contains(domain));
        Box::new(domains.into_iter().map(text))
    }
}

fn text(octets: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(octets))
}

/// A row in a template.
#[derive(Debug)]
struct Printed {
    key: Box<str>,
    value: Value,
}

impl Object for Printed {
    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        let split = || split_external(&self.key).unwrap_or((self.key.as_ref().into(), ""));
        match name.as_str()? {
            "key" => Some(Value::from(self.key.as_ref())),
            "address" => Some(match split_external(&self.key) {
                Some((local, domain)) => Value::from(format!("{local}@{domain}")),
                None => Value::from(self.key.as_ref()),
            }),
            "local" => Some(Value::from(split().0.as_ref())),
            "domain" => Some(text(domain_part(self.key.as_bytes()))),
            "is_wildcard" => Some(Value::from(self.key.starts_with('@'))),
            "value" => Some(self.value.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Folding;

    fn rows(keys: &[&str]) -> Rows {
        let mut rows = RowsBuilder::default();
        keys.iter()
            .for_each(|key| rows.push(key.as_bytes(), Facts::default()));
        rows.finish()
    }

    fn rendered(template: &Template, keys: &[&str]) -> String {
        let mut text = Vec::new();
        template
            .render(&rows(keys), "OK", &mut text)
            .expect("memory");
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn shipped_templates_are_good_and_their_forms_read_them() {
        for shipped in shipped() {
            let template = Template::new(shipped.name, shipped.text).expect("a template");
            let text = rendered(&template, &["@example.org", "anna@example.com"]);
            assert!(template.is_readable(), "{}: {text}", shipped.name);
            assert!(template.read(rendered(&template, &[]).as_bytes(), b"OK") == Ok(Vec::new()));
        }
    }

    /// Local parts put together from everything that means something somewhere.
    #[test]
    fn what_is_written_has_exactly_the_rows_that_can_be_said() {
        const SIGNS: [&str; 24] = [
            "a",
            "b",
            "ü",
            "\"",
            "\\",
            " ",
            ":",
            "#",
            "@",
            "*",
            "!",
            "^",
            "$",
            ";",
            "/",
            "{",
            "}",
            "%",
            "+",
            ",",
            "'",
            "|",
            "To:",
            "{{row.key}}",
        ];
        let mut seed: u64 = 1;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize
        };
        let mut builder = RowsBuilder::default();
        for _ in 0..5_000 {
            let local: String = (0..=next() % 5)
                .map(|_| SIGNS[next() % SIGNS.len()])
                .collect();
            let address = format!("{}@example.com", crate::address::quoted(&local));
            let Ok(address) = crate::address::Address::parse(&address) else {
                continue;
            };
            for key in crate::keys::Key::all_of(&address, Folding::Unicode) {
                builder.push(key.as_str().as_bytes(), Facts::default());
            }
        }
        builder.push(b"@example.com", Facts::default());
        let rows = builder.finish();
        assert!(rows.len() > 3_000, "{}", rows.len());
        for shipped in shipped() {
            let template = Template::new(shipped.name, shipped.text).expect("a template");
            let mut text = Vec::new();
            template.render(&rows, "OK", &mut text).expect("memory");
            let mut said = rows.keys().filter(|key| template.can_say(key));
            let mut said_count = 0;
            let read = template.each_row(text.as_slice(), |key, _| {
                said_count += 1;
                assert_eq!(said.next(), Some(key), "{}", shipped.name);
            });
            assert_eq!((read, said.next()), (Ok(()), None), "{}", shipped.name);
            assert!(said_count > 300, "{}: {said_count}", shipped.name);
        }
    }

    #[track_caller]
    fn check_refused(text: &str, line: usize, message: &str) {
        let error = Template::new("own", text).expect_err("a mistake");
        assert!(
            error.line == line && error.message.contains(message),
            "{text:?}: {error}"
        );
    }

    #[test]
    fn what_a_template_forgets_to_escape_is_escaped() {
        let keys = ["\"a: b\"@example.com", "anna@example.com"];
        let check = |text: &str, expected: &str| {
            let template = Template::new("own", text).expect("a template");
            assert_eq!(rendered(&template, &keys), expected, "{text}");
        };
        check(
            "{# escape: exim #}{% for row in rows %}[{{ row.address }}]{% endfor %}",
            "[\"a: b@example.com\"][anna@example.com]",
        );
        // Through a variable, a concatenation and a filter; and turned off.
        check(
            "{# escape: exim #}{% for row in rows %}{% set x %}{{ row.local }}{% endset %}{{ x }};{% endfor %}",
            "\"a: b\";anna;",
        );
        check(
            "{# escape: exim #}{% for row in rows %}{{ \"x \" ~ row.local|upper }};{% endfor %}",
            "\"x A: B\";\"x ANNA\";",
        );
        check(
            "{# escape: exim #}{% autoescape false %}{% for row in rows %}{{ row.local }};{% endfor %}{% endautoescape %}",
            "\"a: b\";anna;",
        );
        check(
            "{# escape: json #}{% for row in rows %}{{ row.key }}{{ row.value }}{{ loop.index }}{% endfor %}",
            "\"\\\"a: b\\\"@example.com\"\"OK\"1\"anna@example.com\"\"OK\"2",
        );
        // What a form cannot say does not get here.
        check(
            "{# escape: lines #}{% for row in rows %}{{ row.address|replace(\"anna\", \"bob\") }}{% endfor %}",
            "bob@example.com",
        );
        check(
            "{# escape: lines #}{% for domain in domains %}{{ domain }};{% endfor %}",
            "example.com;",
        );
    }

    #[test]
    fn a_full_disk_is_no_mistake_of_the_template() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let template = Template::new("rspamd", shipped()[4].text).expect("a template");
        let rendered = template.render(&rows(&["anna@example.com"]), "OK", &mut Full);
        let is_told = matches!(
            &rendered,
            Err(RenderError::NotWritten(error)) if error.kind() == io::ErrorKind::StorageFull
        );
        assert!(is_told, "{rendered:?}");
    }

    #[test]
    fn a_template_that_does_not_end_is_ended() {
        let text = "{# escape: lines #}{% for a in rows %}{% for b in rows %}{% for c in rows %}\n\
                    {% if c.key == b.key %}{% endif %}{% endfor %}{% endfor %}{% endfor %}";
        let template = Template::new("own", text).expect("few rows are no trouble");
        let keys: Vec<String> = (0..300)
            .map(|number| format!("r{number}@example.com"))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rendered = template.render(&rows(&keys), "OK", &mut io::sink());
        let told = rendered.expect_err("too many steps").to_string();
        assert!(told.starts_with("own: line 2: "), "{told}");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        check_refused("{% for row in rows %}", 1, "{# escape: FORM #}");
        check_refused("{# escape: html #}", 1, "\"html\" is none of exim, ");
        check_refused("{# escape: lines #}\n{% for row %}", 2, "syntax error");
        check_refused("{# escape: lines #}\n\n{{ row.key }}", 3, "undefined");
        check_refused(
            "{# escape: lines #}\n{% for row in rows %}\n{{ row.kye }}{% endfor %}",
            3,
            "undefined",
        );
        check_refused(
            "{# escape: lines #}\n{% for row in rows if row.kye %}{% endfor %}",
            2,
            "undefined",
        );
        check_refused(
            "{# escape: lines #}\n{{ rows }}",
            2,
            "only texts and numbers",
        );
        check_refused("{# escape: lines #}\n{{ \"a b\" }}", 2, "holds a space");
        check_refused("{# escape: exim #}\n{{ \"a\\nb\" }}", 2, "line end");
        check_refused("{# escape: exim #}\n{{ \"a\"|safe }}", 2, "unknown filter");
        check_refused("{# escape: exim #}\n{% include \"/etc/passwd\" %}", 2, "");
        check_refused("{# escape: exim #}\n{{ range(10) }}", 2, "unknown function");
        check_refused(
            "{# escape: exim #}\n{% for a in rows %}{% for b in \"x\" * 3000000 %}{% endfor %}{% endfor %}",
            2,
            "",
        );
    }
}
