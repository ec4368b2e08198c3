//! The canonical form of a schema: the bytes that are announced and hashed (`docs/protocol.md`).

use super::{ColumnType, Field, Kind, SchemaError};
use crate::limits::MAX_FIELDS;

/// The first byte.
const FORM_VERSION: u8 = 1;

/// The canonical form of a checked definition.
pub(super) fn write(name: &str, version: u32, fields: &[Field]) -> Vec<u8> {
    fn put_text(out: &mut Vec<u8>, text: &str) {
        // Lengths were checked; they all fit.
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    let mut out = vec![FORM_VERSION];
    put_text(&mut out, name);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&(fields.len() as u16).to_le_bytes());
    for field in fields {
        put_text(&mut out, &field.name);
        out.push(field.ty.tag());
        out.extend_from_slice(&field.ty.list_length().to_le_bytes());
        out.push(field.kind.tag());
        put_text(&mut out, &field.unit);
        out.push(u8::from(field.nullable));
    }
    out
}

/// Reads name, version and fields; their rules are left to [`super::Schema::new`].
pub(super) fn read(bytes: &[u8]) -> Result<(String, u32, Vec<Field>), SchemaError> {
    let mut reader = Reader { bytes, offset: 0 };
    if reader.u8()? != FORM_VERSION {
        return Err(reader.wrong("unknown format version"));
    }
    let name = reader.text()?;
    let version = u32::from_le_bytes(reader.array()?);
    let count = usize::from(reader.u16()?);
    if count > MAX_FIELDS {
        return Err(SchemaError::FieldCount(count));
    }
    let fields = (0..count).map(|_| reader.field()).collect::<Result<_, _>>()?;
    if reader.offset != bytes.len() {
        return Err(reader.wrong("bytes after the last field"));
    }
    Ok((name, version, fields))
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> SchemaError {
        SchemaError::Canonical { what, offset: self.offset }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SchemaError> {
        let array = self.bytes[self.offset..].first_chunk().ok_or_else(|| self.wrong("it ends early"))?;
        self.offset += N;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, SchemaError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, SchemaError> {
        self.array().map(u16::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, SchemaError> {
        let length = usize::from(self.u16()?);
        let bytes = self.bytes[self.offset..].get(..length).ok_or_else(|| self.wrong("it ends early"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("text that is not UTF-8"))?;
        self.offset += length;
        Ok(text.to_owned())
    }

    fn field(&mut self) -> Result<Field, SchemaError> {
        let name = self.text()?;
        let (ty, list_length) = (self.u8()?, self.u16()?);
        let ty = ColumnType::from_tag(ty, list_length).ok_or_else(|| self.wrong("unknown type"))?;
        let kind = Kind::from_tag(self.u8()?).ok_or_else(|| self.wrong("unknown kind"))?;
        let unit = self.text()?;
        let nullable = match self.u8()? {
            0 => false,
            1 => true,
            _ => return Err(self.wrong("a flag that is neither 0 nor 1")),
        };
        Ok(Field { name, ty, kind, unit, nullable })
    }
}
