//! Types of columns given with `--fields`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::CsvError;
use super::cell::CellType;

/// The content of a `--fields` file: types by column, either for all files or by file name without `.csv`.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredTypes {
    file: PathBuf,
    content: Content,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged, expecting = "expected {\"field\": \"type\"} or {\"file name\": {\"field\": \"type\"}}")]
enum Content {
    ForAll(BTreeMap<String, String>),
    ByFile(BTreeMap<String, BTreeMap<String, String>>),
}

impl DeclaredTypes {
    pub(crate) fn read(file: &Path) -> Result<Self, CsvError> {
        let file = file.to_owned();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) => return Err(CsvError::Unreadable { file, source }),
        };
        match serde_json::from_str(&text) {
            Ok(content) => Ok(Self { file, content }),
            Err(error) => Err(CsvError::Declared { file, problem: error.to_string() }),
        }
    }

    /// The types declared for the columns `fields` of the CSV file `csv`; `None` where a column is not declared.
    pub(super) fn for_file(&self, csv: &Path, fields: &[String]) -> Result<Vec<Option<CellType>>, CsvError> {
        let problem = |problem: String| CsvError::Declared { file: self.file.clone(), problem };
        let types = match &self.content {
            Content::ForAll(types) => types,
            Content::ByFile(files) => {
                let stem = stem(csv);
                files.get(stem).ok_or_else(|| {
                    let known = files.keys().cloned().collect::<Vec<_>>().join(", ");
                    problem(format!("has no types for {stem}, only for {known}"))
                })?
            }
        };
        let unknown = |field: &str, name: &str| {
            problem(format!("{field} has the unknown type {name:?}; known are {}", CellType::NAMES))
        };
        if let Some(name) = types.keys().find(|name| !fields.contains(name)) {
            let fields = fields.join(", ");
            return Err(problem(format!(
                "declares {name}, which {} does not have; its fields are {fields}",
                csv.display()
            )));
        }
        let parse = |field: &String| {
            let parse = |name: &String| CellType::from_name(name).ok_or_else(|| unknown(field, name));
            types.get(field).map(parse).transpose()
        };
        fields.iter().map(parse).collect()
    }
}

/// The file's name without directories, `.gz` and `.csv`.
fn stem(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".csv").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(json: &str, fields: &[&str]) -> Result<Vec<Option<CellType>>, String> {
        let content = serde_json::from_str(json).unwrap();
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let types = DeclaredTypes { file: "fields.json".into(), content };
        types.for_file(Path::new("dir/room.csv.gz"), &fields).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_are_understood() {
        let expected = Ok(vec![Some(CellType::Bool), None]);
        assert_eq!(declared(r#"{"pir": "bool(0/1)"}"#, &["pir", "light"]), expected);
        assert_eq!(declared(r#"{"room": {"pir": "bool"}, "x": {}}"#, &["pir", "light"]), expected);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |json| declared(json, &["pir"]).unwrap_err();
        assert!(message(r#"{"x": {"pir": "int"}}"#).contains("has no types for room, only for x"));
        assert!(message(r#"{"pirr": "int"}"#).contains("declares pirr"));
        assert!(message(r#"{"pir": "number"}"#).contains("unknown type \"number\""));
    }
}
