//! The table.
//!
//! A goal is met where our median is not above it. Where the two are no further apart than chance may put the medians
//! (their `noise`), the verdict says so: another run may find the opposite.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// The name of what [`super::commit`] measures.
pub const COMMIT: &str = "commit";

/// The standard error of a median is this much that of a mean, for values that scatter normally.
const MEDIAN_ERROR: f64 = 1.2533;

/// And of such values the middle half is so many standard deviations wide.
const MIDDLE_HALF: f64 = 1.349;

/// So many standard errors are chance, in 95 of 100 cases.
const CHANCE: f64 = 1.96;

/// What a number counts.
#[derive(Clone, Copy)]
pub enum Unit {
    Ms,
    Mb,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::Mb => "MB",
        }
    }
}

/// How large our median may be.
#[derive(Clone, Copy)]
pub enum Allowed {
    /// It is only told.
    Anything,
    /// So much.
    Most(f64),
    /// So much above the floor.
    And(f64),
    /// So much above the floor and one commit.
    CommitAnd(f64),
}

/// One line of the table. `ours` and `floor` name samples.
pub struct Row {
    pub measure: String,
    pub unit: Unit,
    pub ours: String,
    pub floor: Option<String>,
    pub allowed: Allowed,
}

/// What was measured, by name.
#[derive(Default)]
pub struct Samples(BTreeMap<String, Vec<f64>>);

/// Median, least, most, and the standard error of the median.
#[derive(Clone, Copy)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
    error: f64,
}

impl Samples {
    pub fn add(&mut self, name: &str, value: f64) {
        self.0.entry(name.to_owned()).or_default().push(value);
    }

    pub fn add_time(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64() * 1000.0);
    }

    fn summary(&self, name: &str) -> Summary {
        let mut values = self.0.get(name).unwrap_or_else(|| panic!("{name} was not measured")).clone();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let (low, high) = (values[last / 2], values[values.len() / 2]);
        // Not their standard deviation: one value that is far off says nothing of the median.
        let deviation = (values[last - last / 4] - values[last / 4]) / MIDDLE_HALF;
        Summary {
            median: low.midpoint(high),
            least: values[0],
            most: values[last],
            error: MEDIAN_ERROR * deviation / (values.len() as f64).sqrt(),
        }
    }
}

/// A row with its numbers.
struct Filled<'a> {
    row: &'a Row,
    ours: Summary,
    floor: Option<Summary>,
    goal: Option<f64>,
}

impl Filled<'_> {
    fn of<'a>(row: &'a Row, samples: &Samples) -> Filled<'a> {
        let floor = row.floor.as_deref().map(|name| samples.summary(name));
        let above = |more: f64| floor.map(|floor| floor.median + more);
        let goal = match row.allowed {
            Allowed::Anything => None,
            Allowed::Most(most) => Some(most),
            Allowed::And(more) => above(more),
            Allowed::CommitAnd(more) => above(more + samples.summary(COMMIT).median),
        };
        Filled { row, ours: samples.summary(&row.ours), floor, goal }
    }

    /// How far chance may put our median from where it belongs, with that of the floor.
    fn noise(&self) -> f64 {
        CHANCE * self.ours.error.hypot(self.floor.map_or(0.0, |floor| floor.error))
    }

    /// Whether another run may well find the opposite.
    fn is_open(&self) -> bool {
        self.goal.is_some_and(|goal| (self.ours.median - goal).abs() <= self.noise())
    }

    fn met(&self) -> bool {
        self.goal.is_none_or(|goal| self.ours.median <= goal)
    }

    fn json(&self) -> Value {
        json!({
            "measure": self.row.measure,
            "unit": self.row.unit.name(),
            "ours": rounded(self.ours.median),
            "floor": self.floor.map(|floor| rounded(floor.median)),
            "peers": {},
            "goal": self.goal.map_or_else(|| json!("told only"), |goal| json!(rounded(goal))),
            "met": self.met(),
            "noise": rounded(self.noise()),
        })
    }

    fn line(&self) -> String {
        let mut verdict = match (self.goal, self.met()) {
            (None, _) => String::new(),
            (Some(_), true) => "met".to_owned(),
            (Some(_), false) => "missed".to_owned(),
        };
        if self.is_open() {
            verdict += &format!(", undecided: ± {:.2}", self.noise());
        }
        format!(
            "{:<55} {:>27} {:>27} {:>10} {verdict}",
            format!("{}, {}", self.row.measure, self.row.unit.name()),
            spread(self.ours),
            self.floor.map(spread).unwrap_or_default(),
            self.goal.map(|goal| format!("≤ {goal:.2}")).unwrap_or_default(),
        )
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn spread(summary: Summary) -> String {
    format!("{:.2} ({:.2} – {:.2})", summary.median, summary.least, summary.most)
}

/// Prints the table.
pub fn print(rows: &[Row], samples: &Samples) {
    println!("{:<55} {:>27} {:>27} {:>10}", "measure", "through the server", "floor", "goal");
    for row in rows {
        println!("{}", Filled::of(row, samples).line().trim_end());
    }
}

/// The table as JSON.
pub fn json(rows: &[Row], samples: &Samples) -> String {
    let rows: Vec<Value> = rows.iter().map(|row| Filled::of(row, samples).json()).collect();
    format!("{:#}\n", json!({"rows": rows}))
}
