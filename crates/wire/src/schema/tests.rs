use proptest::prelude::*;

use super::*;

fn field(name: &str) -> Field {
    Field::new(name, ColumnType::F64)
}

fn schema(version: u32, fields: Vec<Field>) -> Schema {
    Schema::new("weather", version, fields).unwrap()
}

#[test]
fn system_names_and_twins_are_refused() {
    for name in SYSTEM_NAMES {
        let upper = name.to_uppercase();
        assert_eq!(Schema::new("s", 1, vec![field(&upper)]), Err(SchemaError::ReservedName(upper.clone())),);
        assert!(Schema::new(name, 1, vec![field("x")]).is_ok(), "only field names are reserved");
    }
    let twins = Schema::new("s", 1, vec![field("Äa"), field("äA")]);
    assert_eq!(twins, Err(SchemaError::DuplicateName("äA".into())));
}

#[test]
fn limits_hold() {
    assert!(matches!(Schema::new("", 1, vec![field("x")]), Err(SchemaError::Text { .. })));
    assert!(matches!(Schema::new("s", 1, vec![field("a\tb")]), Err(SchemaError::Text { .. })));
    assert_eq!(Schema::new("s", 1, vec![]), Err(SchemaError::FieldCount(0)));
    let fields =
        |count: usize, width: usize| (0..count).map(|i| field(&format!("{i:0width$}"))).collect::<Vec<_>>();
    assert_eq!(Schema::new("s", 1, fields(1025, 4)), Err(SchemaError::FieldCount(1025)));
    assert!(Schema::new("s", 1, fields(1024, 4)).is_ok());
    assert!(matches!(Schema::new("s", 1, fields(1024, 128)), Err(SchemaError::TooLarge(_))));
    for length in [0, 16_385] {
        let list = Field::new("wave", ColumnType::I16List(length));
        assert!(matches!(Schema::new("s", 1, vec![list]), Err(SchemaError::ListLength { .. })));
    }
}

#[test]
fn every_part_of_the_definition_is_in_the_id() {
    let base = schema(1, vec![field("t")]);
    let others = [
        Schema::new("weathers", 1, vec![field("t")]).unwrap(),
        schema(2, vec![field("t")]),
        schema(1, vec![field("T")]),
        schema(1, vec![field("t").with_kind(Kind::Angle)]),
        schema(1, vec![field("t").with_unit("K")]),
        schema(1, vec![field("t").nullable()]),
        schema(1, vec![Field::new("t", ColumnType::F32)]),
        schema(1, vec![field("t"), field("u")]),
    ];
    for other in others {
        assert_ne!(base.id(), other.id(), "{other}");
    }
}

#[test]
fn evolution_takes_what_old_events_survive() {
    let old = schema(1, vec![Field::new("t", ColumnType::F32).with_unit("Cel"), field("gone")]);
    let t64 = field("t").with_unit("Cel");
    let fine = schema(2, vec![field("new").nullable(), t64.clone().nullable()]);
    assert_eq!(old.check_evolution(&fine), Ok(()));

    let refused = [
        (schema(1, vec![t64.clone()]), "higher version"),
        (schema(2, vec![t64.clone(), field("new")]), "must be nullable"),
        (schema(2, vec![Field::new("t", ColumnType::I64).with_unit("Cel")]), "the type"),
        (schema(2, vec![t64.clone().with_unit("K")]), "the unit"),
        (schema(2, vec![t64.clone().with_kind(Kind::Angle)]), "the kind"),
        (schema(2, vec![field("T").with_unit("Cel")]), "case"),
        (Schema::new("other", 2, vec![t64]).unwrap(), "names differ"),
    ];
    for (newer, reason) in refused {
        let message = old.check_evolution(&newer).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains("weather v1 (t f32 gauge in Cel"), "{message}");
    }
    assert!(
        fine.check_evolution(&schema(3, vec![field("t").with_unit("Cel")])).is_err(),
        "no way back from nullable"
    );
}

fn column_type() -> impl Strategy<Value = ColumnType> {
    prop_oneof![
        Just(ColumnType::F64),
        Just(ColumnType::F32),
        Just(ColumnType::I64),
        Just(ColumnType::U64),
        Just(ColumnType::Bool),
        Just(ColumnType::Text),
        Just(ColumnType::Bytes),
        Just(ColumnType::Timestamp),
        (1..=MAX_LIST_LENGTH as u16).prop_map(ColumnType::F32List),
        (1..=MAX_LIST_LENGTH as u16).prop_map(ColumnType::I16List),
    ]
}

prop_compose! {
    fn any_schema()(
        name in "\\PC{1,20}",
        version: u32,
        fields in prop::collection::vec((column_type(), 1..=4u8, "\\PC{0,8}", any::<bool>()), 1..20),
    ) -> Schema {
        let fields = fields.into_iter().enumerate().map(|(i, (ty, kind, unit, nullable))| {
            Field { name: format!("field {i}"), ty, kind: Kind::from_tag(kind).unwrap(), unit, nullable }
        });
        Schema::new(name, version, fields.collect()).unwrap()
    }
}

proptest! {
    #[test]
    fn canonical_form_round_trips(schema in any_schema()) {
        prop_assert_eq!(Schema::from_canonical(schema.canonical()), Ok(schema));
    }

    #[test]
    fn only_the_canonical_form_is_read(schema in any_schema(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = schema.canonical().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())], &[&bytes[..], &[0]].concat()] {
            if let Ok(read) = Schema::from_canonical(bytes) {
                prop_assert_eq!(read.canonical(), bytes);
            }
        }
    }

    #[test]
    fn random_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        if let Ok(read) = Schema::from_canonical(&bytes) {
            prop_assert_eq!(read.canonical(), bytes);
        }
    }
}
