//! The families of a scrape: what the SDK has collected, under names and labels that are unique.
//!
//! Prometheus refuses a whole target for one line with a label twice, and OpenMetrics allows a family's name once. Users
//! call their instruments and attributes as they like, so names are settled here, by these rules:
//!
//! | what collides | what the scrape shows |
//! | --- | --- |
//! | an attribute and a label of the format: `le`, `quantile`, `otel_scope_…`, `__…` | `exported_` before the attribute's name |
//! | attributes that differ only in characters which labels cannot have | one label, values joined by `;` in the order of their names |
//! | instruments of one name, of several meters | each series with its meter: `otel_scope_name="…"` |
//! | a counter or an info, and another family, of one OpenMetrics name | both; the counter or info has the type `unknown` there |
//! | instruments of one name and different types | the first one |
//! | a name, and the `_bucket`, `_sum` or `_count` of a histogram | the first one |
//! | `target_info` or `chassis_build_info`, and another instrument | the chassis's |
//! | two series of equal labels | the first one |
//!
//! Names of the chassis are the first ones always. Each collision is reported once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use opentelemetry::{InstrumentationScope, Key, Value};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Histogram, Metric, MetricData, ResourceMetrics, Sum};

use crate::telemetry::names::{self, METRICS, gauge_name, suffix_of_unit};

/// The family that describes the service itself, of the resource's attributes.
const TARGET_INFO: &str = "target_info";

/// What is put before an attribute's name that the format needs for itself. Prometheus does so with its own labels.
const EXPORTED: &str = "exported_";

/// Labels of a series, sorted by name.
pub(super) type SeriesLabels = Vec<(String, String)>;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    /// A gauge that is always 1: its labels are what it says.
    Info,
}

impl FamilyKind {
    /// The type's name in the text format.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All series of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// The name with all suffixes.
    pub(super) name: String,
    pub(super) kind: FamilyKind,
    pub(super) help: String,
    /// Its OpenMetrics name is another family's too.
    pub(super) shares_stem: bool,
    pub(super) series: Vec<Series>,
}

impl Family {
    /// The name of the family in OpenMetrics, where samples have suffixes that the family has not.
    pub(super) fn stem(&self) -> &str {
        let suffix = match self.kind {
            FamilyKind::Counter => "_total",
            FamilyKind::Info => "_info",
            FamilyKind::Gauge | FamilyKind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(&self.name)
    }
}

/// One series of a family.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: SeriesLabels,
    pub(super) point: Point,
}

/// The value of a series now.
#[derive(Debug)]
pub(super) enum Point {
    Value(f64),
    /// Bounds with the counts at or below them, without the one for infinity.
    Histogram {
        buckets: Vec<(f64, u64)>,
        sum: f64,
        count: u64,
    },
}

/// A name that could not stay as the user gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Collision {
    /// The family in the scrape.
    pub(super) family: String,
    /// The meter of the instrument; empty when it is not about one.
    pub(super) meter: String,
    /// What the scrape shows instead, and what to do.
    pub(super) message: String,
}

/// The names that are given away, from the first scrape on.
#[derive(Debug)]
pub(super) struct Names {
    /// The scope of the chassis's own instruments.
    own: InstrumentationScope,
    claims: HashMap<String, Claim>,
    /// Names of samples, and the family that has each.
    samples: HashMap<String, String>,
    reported: HashSet<Collision>,
}

#[derive(Debug)]
struct Claim {
    kind: FamilyKind,
    /// No other instrument can be in this family.
    closed: bool,
    /// A family of the chassis.
    reserved: bool,
    /// The meters of its instruments, but the chassis's, as labels.
    meters: BTreeSet<SeriesLabels>,
}

impl Names {
    /// The names of the chassis are given away already.
    pub(super) fn new(own: InstrumentationScope) -> Self {
        let mut names = Self { own, claims: HashMap::new(), samples: HashMap::new(), reported: HashSet::new() };
        for metric in METRICS {
            let name = metric.scrape_name();
            let kind = match metric.kind {
                names::Kind::Counter => FamilyKind::Counter,
                names::Kind::Histogram => FamilyKind::Histogram,
                names::Kind::UpDownCounter | names::Kind::Gauge => gauge_kind(&name),
            };
            names.reserve(&name, kind);
        }
        names.reserve(TARGET_INFO, FamilyKind::Info);
        names
    }

    fn reserve(&mut self, name: &str, kind: FamilyKind) {
        let closed = kind == FamilyKind::Info;
        self.claims.insert(name.to_owned(), Claim { kind, closed, reserved: true, meters: BTreeSet::new() });
        self.take_samples(name, kind);
    }

    fn take_samples(&mut self, name: &str, kind: FamilyKind) {
        for sample in sample_names(name, kind) {
            self.samples.insert(sample, name.to_owned());
        }
    }

    /// Takes a name for an instrument of this meter, or says who has it.
    fn claim(&mut self, name: &str, kind: FamilyKind, meter: Option<&SeriesLabels>) -> Result<(), String> {
        if let Some(claim) = self.claims.get_mut(name) {
            let Some(meter) = meter else { return Ok(()) };
            let whose = if claim.reserved {
                "the chassis has a metric of this name"
            } else {
                "another instrument has this name"
            };
            if claim.closed {
                return Err(format!("{whose} for itself; it is left out of the scrape: give it another name"));
            }
            if claim.kind != kind {
                let (has, found) = (claim.kind.as_str(), kind.as_str());
                return Err(format!(
                    "{whose} and is a {has}; this {found} is left out of the scrape: give it another name"
                ));
            }
            claim.meters.insert(meter.clone());
            return Ok(());
        }
        if let Some(family) = sample_names(name, kind).iter().find_map(|sample| self.samples.get(sample)) {
            return Err(format!(
                "its series would have the names of those of `{family}`; it is left out of the scrape: give it another name"
            ));
        }
        let meters = meter.cloned().into_iter().collect();
        self.claims.insert(name.to_owned(), Claim { kind, closed: false, reserved: false, meters });
        self.take_samples(name, kind);
        Ok(())
    }

    /// Returns whether series of this family need the label of their meter.
    fn is_shared(&self, name: &str) -> bool {
        self.claims.get(name).is_some_and(|claim| claim.meters.len() + usize::from(claim.reserved) > 1)
    }

    /// The families of a collection, by name, and the collisions that were not reported before.
    pub(super) fn families(&mut self, collected: &ResourceMetrics) -> (Vec<Family>, Vec<Collision>) {
        let mut found = Found::default();
        let resource = labels(collected.resource().iter(), &[], TARGET_INFO, &mut found.collisions);
        if !resource.is_empty() {
            found.push(TARGET_INFO, FamilyKind::Info, "Target metadata", (resource, Point::Value(1.0)));
        }
        let mut meters: Vec<_> = collected
            .scope_metrics()
            .map(|scope| ((*scope.scope() != self.own).then(|| labels_of_meter(scope.scope())), scope))
            .collect();
        // The chassis's own come first, and of several new meters the same one at each start.
        meters.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut shown = Vec::new();
        for (meter, scope) in &meters {
            for metric in scope.metrics() {
                match self.name_of(metric, meter.as_ref()) {
                    None => {}
                    Some(Ok((name, kind))) => shown.push((name, kind, metric, meter)),
                    Some(Err((family, message))) => {
                        let meter = scope.scope().name().to_owned();
                        found.collisions.insert(Collision { family, meter, message });
                    }
                }
            }
        }
        // After all names are claimed, so that a shared one is shared for all of its meters.
        for (name, kind, metric, meter) in shown {
            let shared = self.is_shared(&name);
            let meter = meter.as_ref().filter(|_| shared).map_or(&[][..], |labels| labels);
            found.add(&name, kind, metric, meter);
            if shared && !meter.is_empty() {
                let message =
                    "instruments of several meters have this name; each series shows its meter as `otel_scope_name`";
                found.collide(&name, message.to_owned());
            }
        }
        let (families, collisions) = found.finish();
        let new = collisions.into_iter().filter(|collision| self.reported.insert(collision.clone())).collect();
        (families, new)
    }

    /// The family that an instrument is in; `None` for what the scrape cannot show.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn name_of(
        &mut self,
        metric: &Metric,
        meter: Option<&SeriesLabels>,
    ) -> Option<Result<(String, FamilyKind), (String, String)>> {
        let kind = kind_of(metric.data())?;
        let name = scrape_name(metric.name(), metric.unit(), kind);
        if kind == FamilyKind::Gauge
            && let Some(other) = gauge_name(&name)
            && self.claim(&other, kind, meter).is_ok()
        {
            return Some(Ok((other, kind)));
        }
        let kind = match self.claims.get(&name) {
            Some(claim) if meter.is_none() => claim.kind,
            _ => kind,
        };
        Some(match self.claim(&name, kind, meter) {
            Ok(()) => Ok((name, kind)),
            Err(message) => Err((name, message)),
        })
    }
}

/// The families while they are gathered.
#[derive(Default)]
struct Found {
    families: BTreeMap<String, Family>,
    /// The labels that each family has, without the empty ones, which Prometheus does not see.
    series: HashMap<String, HashSet<SeriesLabels>>,
    collisions: BTreeSet<Collision>,
}

impl Found {
    fn collide(&mut self, family: &str, message: String) {
        self.collisions.insert(Collision { family: family.to_owned(), meter: String::new(), message });
    }

    fn push(&mut self, name: &str, kind: FamilyKind, help: &str, (labels, point): (SeriesLabels, Point)) {
        let seen: SeriesLabels = labels.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
        if !self.series.entry(name.to_owned()).or_default().insert(seen) {
            let message = "two series of this name have equal labels, of two instruments or by attributes that are empty \
                           or alike; the scrape shows the first: give one of them another name";
            self.collide(name, message.to_owned());
            return;
        }
        let new =
            || Family { name: name.to_owned(), kind, help: help.to_owned(), shares_stem: false, series: Vec::new() };
        self.families.entry(name.to_owned()).or_insert_with(new).series.push(Series { labels, point });
    }

    fn add(&mut self, name: &str, kind: FamilyKind, metric: &Metric, meter: &[(String, String)]) {
        match metric.data() {
            AggregatedMetrics::F64(data) => self.add_data(name, kind, metric.description(), data, meter),
            AggregatedMetrics::U64(data) => self.add_data(name, kind, metric.description(), data, meter),
            AggregatedMetrics::I64(data) => self.add_data(name, kind, metric.description(), data, meter),
        }
    }

    fn add_data<T: Number>(
        &mut self,
        name: &str,
        kind: FamilyKind,
        help: &str,
        data: &MetricData<T>,
        meter: &[(String, String)],
    ) {
        let mut collisions = BTreeSet::new();
        let mut labels: Box<LabelsOf<'_>> =
            Box::new(|attributes| self::labels(attributes, meter, name, &mut collisions));
        let mut series = Vec::new();
        match data {
            MetricData::Sum(sum) => {
                for point in sum.data_points() {
                    let labels = labels(&mut point.attributes().map(|pair| (&pair.key, &pair.value)));
                    series.push((labels, Point::Value(point.value().as_f64())));
                }
            }
            MetricData::Gauge(gauge) => {
                for point in gauge.data_points() {
                    let labels = labels(&mut point.attributes().map(|pair| (&pair.key, &pair.value)));
                    series.push((labels, Point::Value(point.value().as_f64())));
                }
            }
            MetricData::Histogram(histogram) => series_of_histogram(histogram, &mut *labels, &mut series),
            // No view asks for one, and the formats have none.
            MetricData::ExponentialHistogram(_) => {}
        }
        drop(labels);
        for series in series {
            self.push(name, kind, help, series);
        }
        self.collisions.append(&mut collisions);
    }

    fn finish(mut self) -> (Vec<Family>, BTreeSet<Collision>) {
        let mut stems: HashSet<String> = self
            .families
            .values()
            .filter(|family| family.stem() == family.name)
            .map(|family| family.name.clone())
            .collect();
        let mut shared = Vec::new();
        for family in self.families.values_mut().filter(|family| family.stem() != family.name) {
            if !stems.insert(family.stem().to_owned()) {
                family.shares_stem = true;
                shared.push(family.name.clone());
            }
        }
        for name in shared {
            let message = "OpenMetrics has one family of a name, and another instrument has this one; \
                           there its type is `unknown`: give one of them another name";
            self.collide(&name, message.to_owned());
        }
        let mut families: Vec<_> = self.families.into_values().collect();
        for family in &mut families {
            family.series.sort_by(|one, other| one.labels.cmp(&other.labels));
        }
        (families, self.collisions)
    }
}

/// Makes the labels of a series of its attributes.
type LabelsOf<'a> = dyn for<'b> FnMut(&mut (dyn Iterator<Item = (&'b Key, &'b Value)> + 'b)) -> SeriesLabels + 'a;

fn series_of_histogram<T: Number>(
    histogram: &Histogram<T>,
    labels: &mut LabelsOf<'_>,
    series: &mut Vec<(SeriesLabels, Point)>,
) {
    for point in histogram.data_points() {
        let labels = labels(&mut point.attributes().map(|pair| (&pair.key, &pair.value)));
        let mut below = 0;
        let counts = point.bucket_counts().map(|count| {
            below += count;
            below
        });
        let buckets = point.bounds().zip(counts).collect();
        series.push((labels, Point::Histogram { buckets, sum: point.sum().as_f64(), count: point.count() }));
    }
}

fn kind_of(data: &AggregatedMetrics) -> Option<FamilyKind> {
    fn kind<T>(data: &MetricData<T>, is_monotonic: fn(&Sum<T>) -> bool) -> Option<FamilyKind> {
        match data {
            MetricData::Sum(sum) if is_monotonic(sum) => Some(FamilyKind::Counter),
            MetricData::Sum(_) | MetricData::Gauge(_) => Some(FamilyKind::Gauge),
            MetricData::Histogram(_) => Some(FamilyKind::Histogram),
            MetricData::ExponentialHistogram(_) => None,
        }
    }
    match data {
        AggregatedMetrics::F64(data) => kind(data, Sum::is_monotonic),
        AggregatedMetrics::U64(data) => kind(data, Sum::is_monotonic),
        AggregatedMetrics::I64(data) => kind(data, Sum::is_monotonic),
    }
}

/// A gauge of the chassis whose name says so is an info.
fn gauge_kind(name: &str) -> FamilyKind {
    if name.ends_with("_info") { FamilyKind::Info } else { FamilyKind::Gauge }
}

/// The names of a family's samples, and its own.
fn sample_names(name: &str, kind: FamilyKind) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        FamilyKind::Histogram => &["", "_bucket", "_sum", "_count"],
        FamilyKind::Counter | FamilyKind::Gauge | FamilyKind::Info => &[""],
    };
    suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect()
}

/// The family's name: characters that it cannot have become `_`; the unit, and `_total` for a counter, stand at its end
/// once (OpenTelemetry's compatibility with Prometheus, "Metric Metadata").
fn scrape_name(name: &str, unit: &str, kind: FamilyKind) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    let mut name: String = name.chars().map(|character| if allowed(character) { character } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    let total = if kind == FamilyKind::Counter { "_total" } else { "" };
    let mut stem = name.strip_suffix(total).unwrap_or(&name).to_owned();
    if let Some(unit) = suffix_of_unit(unit)
        && !stem.strip_suffix(&*unit).is_some_and(|rest| rest.ends_with('_'))
    {
        stem = format!("{stem}_{unit}");
    }
    stem + total
}

/// Who made an instrument, as labels.
fn labels_of_meter(scope: &InstrumentationScope) -> SeriesLabels {
    let mut labels = BTreeMap::from([("otel_scope_name".to_owned(), scope.name().to_owned())]);
    for (label, value) in [("otel_scope_version", scope.version()), ("otel_scope_schema_url", scope.schema_url())] {
        if let Some(value) = value {
            labels.insert(label.to_owned(), value.to_owned());
        }
    }
    for attribute in scope.attributes() {
        let label = label_name(&format!("otel_scope_{}", attribute.key));
        labels.entry(label).or_insert_with(|| attribute.value.to_string());
    }
    labels.into_iter().collect()
}

/// A name that a label can have.
fn label_name(attribute: &str) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut name: String =
        attribute.chars().map(|character| if allowed(character) { character } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Returns whether the formats, Prometheus or this module give a label of this name themselves.
fn is_reserved(label: &str) -> bool {
    matches!(label, "le" | "quantile") || label.starts_with("otel_scope_") || label.starts_with("__")
}

/// The labels of a series. Each name is there once.
fn labels<'a>(
    attributes: impl Iterator<Item = (&'a Key, &'a Value)>,
    meter: &[(String, String)],
    family: &str,
    collisions: &mut BTreeSet<Collision>,
) -> SeriesLabels {
    let mut collide = |message: String| {
        collisions.insert(Collision { family: family.to_owned(), meter: String::new(), message });
    };
    let mut by_label: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    for (key, value) in attributes {
        let mut label = label_name(key.as_str());
        if is_reserved(&label) {
            label.insert_str(0, EXPORTED);
            collide(format!("the attribute `{key}` is the label `{label}` in the scrape: give it another name"));
        }
        by_label.entry(label).or_default().push((key.as_str(), value.to_string()));
    }
    let join = |(label, mut values): (String, Vec<(&str, String)>)| {
        if values.len() > 1 {
            values.sort();
            let keys: Vec<_> = values.iter().map(|(key, _)| *key).collect();
            let keys = keys.join("`, `");
            collide(format!("the attributes `{keys}` are one label `{label}` in the scrape: give them other names"));
        }
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        (label, values.join(";"))
    };
    let mut labels: SeriesLabels = by_label.into_iter().map(join).collect();
    labels.extend_from_slice(meter);
    labels
}

/// A value of an instrument.
trait Number: Copy {
    /// As Prometheus keeps it, exact to 2⁵³.
    fn as_f64(self) -> f64;
}

impl Number for f64 {
    fn as_f64(self) -> f64 {
        self
    }
}

impl Number for u64 {
    fn as_f64(self) -> f64 {
        self as f64
    }
}

impl Number for i64 {
    fn as_f64(self) -> f64 {
        self as f64
    }
}

#[cfg(test)]
mod tests;
