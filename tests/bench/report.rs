//! The table, and the same as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::contestants::Contestant;

/// What is wanted of ours.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At least so many times the floor.
    AtLeastFloors(f64),
    /// At most so many times the floor.
    AtMostFloors(f64),
    /// At most this.
    AtMost(f64),
    /// It is only reported.
    None,
}

/// A row of the table.
pub struct Measure {
    /// Its short name, for `--only`.
    pub key: &'static str,
    /// What it is.
    pub text: &'static str,
    /// In what it is measured.
    pub unit: &'static str,
    /// How many digits behind the point are worth showing.
    pub digits: usize,
    /// What is wanted.
    pub goal: Goal,
}

/// All values that were measured, by measure and contestant.
pub type Values = BTreeMap<(&'static str, Contestant), Vec<f64>>;

/// The middle one; of an even count the mean of the two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Measure {
    fn met(&self, ours: f64, floor: Option<f64>) -> Option<bool> {
        match self.goal {
            Goal::AtLeastFloors(times) => floor.map(|floor| ours >= times * floor),
            Goal::AtMostFloors(times) => floor.map(|floor| ours <= times * floor),
            Goal::AtMost(most) => Some(ours <= most),
            Goal::None => None,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtLeastFloors(times) => format!("≥ {times} × floor"),
            Goal::AtMostFloors(times) => format!("≤ {times} × floor"),
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::None => String::new(),
        }
    }

    fn shown(&self, value: f64) -> String {
        let text = format!("{value:.*}", self.digits);
        let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        let mut grouped = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped + rest
    }

    fn with_range(&self, values: &[f64]) -> String {
        let Some(middle) = median(values) else { return "–".to_owned() };
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match values.len() {
            1 => self.shown(middle),
            _ => format!("{} ({}–{})", self.shown(middle), self.shown(low), self.shown(high)),
        }
    }
}

/// The table as Markdown: medians, with minimum and maximum.
pub fn table(measures: &[Measure], values: &Values, contestants: &[Contestant]) -> String {
    let names: Vec<&str> = contestants.iter().map(|who| who.name()).collect();
    let mut text = format!("| measure | {} | goal | to the floor | to the best peer |\n", names.join(" | "));
    text.push_str(&format!("|---|{}---|---|---|\n", "---|".repeat(names.len())));
    for measure in measures {
        let of = |who| values.get(&(measure.key, who)).map_or(&[][..], Vec::as_slice);
        let Some(ours) = median(of(Contestant::Ours)) else { continue };
        let floor = median(of(Contestant::Floor));
        let cells: Vec<String> = contestants.iter().map(|who| measure.with_range(of(*who))).collect();
        let met = match measure.met(ours, floor) {
            Some(true) => format!("{}: met", measure.goal()),
            Some(false) => format!("{}: **missed**", measure.goal()),
            None => "–".to_owned(),
        };
        let peers = contestants.iter().filter(|who| !matches!(who, Contestant::Ours | Contestant::Floor));
        let peers: Vec<f64> = peers.filter_map(|who| median(of(*who))).collect();
        let best = match measure.goal {
            Goal::AtLeastFloors(_) => peers.into_iter().reduce(f64::max),
            _ => peers.into_iter().reduce(f64::min),
        };
        let ratio = |to: Option<f64>| match to {
            Some(to) if to > 0.0 => format!("{:.2}", ours / to),
            _ => "–".to_owned(),
        };
        text.push_str(&format!(
            "| {}, {} | {} | {met} | {} | {} |\n",
            measure.text,
            measure.unit,
            cells.join(" | "),
            ratio(floor),
            ratio(best)
        ));
    }
    text
}

/// The same for programs.
pub fn rows(measures: &[Measure], values: &Values, contestants: &[Contestant]) -> Value {
    let rows = measures.iter().filter_map(|measure| {
        let of = |who| values.get(&(measure.key, who)).and_then(|values| median(values));
        let ours = of(Contestant::Ours)?;
        let floor = of(Contestant::Floor);
        let peers: serde_json::Map<String, Value> = (contestants.iter())
            .filter(|who| !matches!(who, Contestant::Ours | Contestant::Floor))
            .filter_map(|who| Some((who.name().to_owned(), json!(of(*who)?))))
            .collect();
        Some(json!({
            "measure": measure.key, "unit": measure.unit, "ours": ours, "floor": floor, "peers": peers,
            "goal": measure.goal(), "met": measure.met(ours, floor),
        }))
    });
    json!({"rows": rows.collect::<Vec<_>>()})
}
