use super::*;

/// Sessions with these titles and texts, the first the most recently active.
fn place(sessions: &[(&str, &[&str])]) -> Place {
    let place = Place::new();
    for (title, texts) in sessions.iter().rev() {
        let row = place.add(title);
        let texts = texts.iter().map(|text| Change::Said(row.key, (*text).to_owned()));
        place.write(texts.collect());
    }
    place
}

#[test]
fn everything_in_a_query_is_only_text() {
    let place = place(&[
        ("Über den Fluß", &["naïve café", "Ελλάδα"]),
        ("plain", &["say \"hello\" AND goodbye", "col:umn", "a-b_c d.e", "100% of it"]),
        ("हिन्दी कमाल", &["ภาษาไทย", "中文字", "e\u{301}clair", "x AND y OR z NOT q NEAR(r, s)"]),
        ("Projects", &["apple pie", "pear tart"]),
    ]);
    let cases: [(&str, &[usize]); 44] = [
        ("uber", &[0]),
        ("über", &[0]),
        ("ÜBER", &[0]),
        ("u\u{308}ber", &[0]),
        ("flu", &[0]),
        ("fluß", &[0]),
        ("naive cafe", &[0]),
        ("cafe naive", &[0]),
        ("ελλάδα", &[0]),
        ("eclair", &[2]),
        ("éclair", &[2]),
        ("हिन्दी", &[2]),
        ("कमाल", &[2]),
        ("ภาษา", &[2]),
        ("ภาษาไทย", &[2]),
        ("中文", &[2]),
        ("\"hello\"", &[1]),
        ("hello\"", &[1]),
        ("\"", &[]),
        ("\"\"", &[]),
        ("hello AND goodbye", &[1]),
        ("hello OR nothing", &[]),
        ("hello NOT goodbye", &[]),
        ("NOT", &[2]),
        ("AND", &[1, 2]),
        ("NEAR(r, s)", &[2]),
        ("NEAR(", &[2]),
        ("text:hello", &[]),
        ("col:umn", &[1]),
        ("col : umn", &[1]),
        ("^say", &[1]),
        ("say*", &[1]),
        ("*", &[]),
        ("+", &[]),
        ("(", &[]),
        ("{text}", &[]),
        ("a-b_c", &[1]),
        ("a b c", &[1]),
        ("100%", &[1]),
        ("%", &[]),
        ("_", &[]),
        ("';--", &[]),
        ("apple pear", &[3]),
        ("\0apple", &[3]),
    ];
    let titles = ["Über den Fluß", "plain", "हिन्दी कमाल", "Projects"];
    for (query, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(|at| titles[*at]).collect();
        assert_eq!(place.titles(Some(query)), expected, "{query:?}");
    }
}

#[test]
fn a_part_of_a_title_or_of_a_directory_is_found_as_it_was_typed() {
    let place = place(&[("The Quick Brown Fox", &[]), ("another", &[])]);
    for (query, expected) in [
        ("uick br", vec!["The Quick Brown Fox"]),
        ("FOX", vec!["The Quick Brown Fox"]),
        ("fox quick", vec!["The Quick Brown Fox"]),
        ("anybody/proj", vec!["The Quick Brown Fox", "another"]),
        ("/", vec!["The Quick Brown Fox", "another"]),
        ("elsewhere", vec![]),
    ] {
        assert_eq!(place.titles(Some(query)), expected, "{query:?}");
    }
}

#[test]
fn the_same_is_found_whether_a_word_is_rare_or_common() {
    // One session more often than is looked up at once.
    let common: Vec<String> = (0..2100).map(|n| format!("common {n}")).collect();
    let common: Vec<&str> = common.iter().map(String::as_str).collect();
    let place = place(&[("few", &["common"]), ("none", &["rare"]), ("many", &common), ("last", &["common rare"])]);
    assert_eq!(place.titles(Some("common")), ["few", "many", "last"]);
    assert_eq!(place.titles(Some("rare")), ["none", "last"]);
    let query = place.store.query("common").expect("a query");
    let found = place.store.list(Some(&query), None, 2).expect("a list");
    let cursor = Cursor { last_activity: found[1].last_activity, id: found[1].id.clone() };
    let rest = place.store.list(Some(&query), Some(&cursor), 2).expect("a list");
    assert_eq!(rest.iter().map(|row| row.title.as_deref()).collect::<Vec<_>>(), [Some("last")]);
    assert!(query.was_found_in(found[0].key) && query.was_found_in(rest[0].key) && !query.was_found_in(99));
}

#[test]
fn what_was_said_is_found_however_much_it_is() {
    let long = "lorem ipsum ".repeat(1000);
    let texts: Vec<String> = (0..9).map(|number| format!("{long} only{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let place = place(&[("much", &texts), ("little", &["only3"])]);
    assert_eq!(place.titles(Some("only3")), ["much", "little"]);
    assert_eq!(place.titles(Some("only0 only8 lorem")), ["much"], "whichever stretch they are in");
}

#[test]
fn a_new_title_takes_the_place_of_the_old_one() {
    let place = place(&[("before", &[])]);
    let mut row = place.store.list(None, None, 1).expect("a list").remove(0);
    row.title = Some("after".into());
    place.write(vec![Change::Session(row.clone().into()), Change::Title(row.key, "after".into())]);
    assert_eq!((place.titles(Some("before")), place.titles(Some("after"))), (vec![], vec!["after".to_owned()]));
}

#[test]
fn pages_of_the_list_have_no_hole_and_no_repeat() {
    let place = Place::new();
    // Many of the same moment.
    for number in 0..30_i64 {
        let mut row = row(place.store.new_key(), &format!("{number}"));
        row.last_activity = number.cast_unsigned() / 7;
        place.write(vec![Change::Session(row.into())]);
    }
    let all: Vec<String> = place.store.list(None, None, 100).expect("a list").into_iter().map(|row| row.id).collect();
    assert_eq!(all.len(), 30);
    for count in [1, 7, 29, 30, 31] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let page = place.store.list(None, cursor.as_ref(), count).expect("a list");
            let Some(last) = page.last() else { break };
            cursor = Some(Cursor { last_activity: last.last_activity, id: last.id.clone() });
            paged.extend(page.into_iter().map(|row| row.id));
        }
        assert_eq!(paged, all, "{count}");
    }
}
