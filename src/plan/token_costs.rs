//! What a token costs in percent of a window, learned from the ledger, and what was spent elsewhere.
//!
//! The service tells whole percents and no prices. Within one period of a window every reading is an interval, one percent wide,
//! around the sum of what the requests before it cost; the costs are non-negative and fit as many of these intervals as possible.
//! A rise that our requests cannot explain is spent elsewhere: other programs and machines use the same plan.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::ledger::{LedgerEntry, TokenCounts};

/// Readings below which nothing is claimed.
pub const MIN_SAMPLES: usize = 20;

/// Readings with a reset this far apart belong to two periods, in seconds.
const SAME_RESET_SECS: i64 = 60;

/// Two readings of exact costs differ by less than one percent more than these costs. A larger rise was spent elsewhere.
const UNEXPLAINED: f64 = 1.1;

/// The same as a share of the costs between two readings, for costs that are not known exactly yet.
const UNEXPLAINED_SHARE: f64 = 0.3;

/// What a cached token costs of an uncached one, as list prices have it.
const USUAL_CACHED: f64 = 0.1;

/// How often rises that were spent elsewhere are taken out, each time with better costs.
const ROUNDS: usize = 8;

/// Most readings that are used, the newest ones: older ones say little about today's costs.
const MAX_READINGS: usize = 2000;

/// Rounds of the least-squares solution.
const COORDINATE_STEPS: usize = 2000;

/// Steps of the walk through the possible costs: until it has forgotten where it began, and then.
const BURN_IN: u32 = 600;
const WALK: u32 = 2400;

/// How much better a fit must be before a part of the spending counts as spent elsewhere all the time.
const EVIDENCE: f64 = 12.0;

/// Percent of a window per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Weight {
    /// A prompt token that the service had to read.
    pub uncached: f64,
    /// A prompt token from the cache.
    pub cached: f64,
    /// An answer token.
    pub output: f64,
}

impl Weight {
    /// Percent that these tokens cost.
    pub fn cost(&self, tokens: &TokenCounts) -> f64 {
        self.uncached * tokens.uncached as f64 + self.cached * tokens.cached as f64 + self.output * tokens.output as f64
    }
}

/// What the readings of a window tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fit {
    /// Percent per token, by model.
    pub weights: BTreeMap<String, Weight>,
    /// Readings behind it.
    pub samples: usize,
    /// Percent that was spent elsewhere.
    pub elsewhere: f64,
    /// The last reading.
    pub(super) last: QuotaReading,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct QuotaReading {
    pub at: i64,
    pub percent: f64,
    pub resets_at: Option<i64>,
    /// Tokens of each feature that were spent before, since the beginning of the ledger.
    spent: Vec<f64>,
}

/// Fits the costs of one window to the ledger of one account, oldest line first. `None` with too few readings.
pub fn fit(entries: &[LedgerEntry], window: &str) -> Option<Fit> {
    let mut models: Vec<&str> = entries.iter().map(|entry| entry.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let readings = readings(entries, window, &models);
    if readings.len() < MIN_SAMPLES {
        return None;
    }
    let segments = segments(readings);
    let plain = solve(&segments, models.len() * 3);
    let timed: Vec<Vec<QuotaReading>> = segments.iter().map(|segment| with_time(segment)).collect();
    let with_drift = solve(&timed, models.len() * 3 + 1);
    let best = if plain.badness - with_drift.badness > EVIDENCE { with_drift } else { plain };
    let costs = System::new(&best.pieces, best.features, true).costs;
    let told = |feature: usize| {
        segments.iter().any(|segment| match (segment.first(), segment.last()) {
            (Some(first), Some(last)) => last.spent[feature] > first.spent[feature],
            _ => false,
        })
    };
    let weights = models.iter().enumerate().map(|(position, model)| {
        let feature = 3 * position;
        let mut weight = Weight { uncached: costs[feature], cached: costs[feature + 1], output: costs[feature + 2] };
        // Readings that tell nothing about the cache leave its cost open. It is cheaper than reading.
        if !told(feature + 1) {
            weight.cached = weight.uncached * USUAL_CACHED;
        }
        weight.cached = weight.cached.min(weight.uncached);
        ((*model).to_owned(), weight)
    });
    let elsewhere: f64 = segments
        .iter()
        .filter_map(|segment| {
            let (first, last) = (segment.first()?, segment.last()?);
            let explained: f64 = difference(last, first).zip(&costs).map(|(spent, cost)| spent * cost).sum();
            Some((last.percent - first.percent - explained).max(0.0))
        })
        // Less than a reading's own width is no evidence.
        .filter(|unexplained| *unexplained >= 1.0)
        .sum();
    Some(Fit {
        weights: weights.collect(),
        samples: segments.iter().map(Vec::len).sum(),
        elsewhere,
        last: segments.last().and_then(|segment| segment.last().cloned()).unwrap_or_default(),
    })
}

impl Fit {
    /// Percent that these tokens cost; `None` for a model that the ledger does not have.
    pub fn cost(&self, model: &str, tokens: &TokenCounts) -> Option<f64> {
        self.weights.get(model).map(|weight| weight.cost(tokens))
    }
}

fn readings(entries: &[LedgerEntry], window: &str, models: &[&str]) -> Vec<QuotaReading> {
    let mut found: Vec<(i64, f64, Option<i64>)> = entries
        .iter()
        .flat_map(|entry| entry.samples.iter().map(move |sample| (entry.sampled_at, sample)))
        .filter(|(_, sample)| sample.window == window)
        .map(|(at, sample)| (at, sample.percent, sample.resets_at))
        .collect();
    found.sort_by_key(|(at, ..)| *at);
    found.dedup_by_key(|(at, ..)| *at);
    found.drain(..found.len().saturating_sub(MAX_READINGS));
    let mut spent = vec![0.0; models.len() * 3];
    let mut lines = entries.iter().peekable();
    found
        .into_iter()
        .map(|(at, percent, resets_at)| {
            while let Some(entry) = lines.next_if(|entry| entry.at <= at) {
                if let Ok(model) = models.binary_search(&entry.model.as_str()) {
                    let TokenCounts { uncached, cached, output, .. } = entry.tokens;
                    for (class, tokens) in [uncached, cached, output].into_iter().enumerate() {
                        spent[model * 3 + class] += tokens as f64;
                    }
                }
            }
            QuotaReading { at, percent, resets_at, spent: spent.clone() }
        })
        .collect()
}

/// Splits the readings into periods of the window.
fn segments(readings: Vec<QuotaReading>) -> Vec<Vec<QuotaReading>> {
    let mut segments: Vec<Vec<QuotaReading>> = Vec::new();
    for reading in readings {
        let goes_on = segments.last().and_then(|segment| segment.last()).is_some_and(|last| {
            let same_reset = match (last.resets_at, reading.resets_at) {
                (Some(one), Some(other)) => one.abs_diff(other) <= SAME_RESET_SECS.unsigned_abs(),
                _ => true,
            };
            same_reset && reading.percent >= last.percent - 1.0
        });
        match segments.last_mut().filter(|_| goes_on) {
            Some(segment) => segment.push(reading),
            None => segments.push(vec![reading]),
        }
    }
    segments
}

/// The same readings with the time as one more thing that may cost, in hours.
fn with_time(segment: &[QuotaReading]) -> Vec<QuotaReading> {
    let begin = segment.first().map_or(0, |reading| reading.at);
    let with = |reading: &QuotaReading| {
        let mut spent = reading.spent.clone();
        spent.push((reading.at - begin) as f64 / 3_600_000.0);
        QuotaReading { spent, ..reading.clone() }
    };
    segment.iter().map(with).collect()
}

fn difference<'r>(one: &'r QuotaReading, other: &'r QuotaReading) -> impl Iterator<Item = f64> + 'r {
    one.spent.iter().zip(&other.spent).map(|(one, other)| one - other)
}

struct Solution {
    /// The readings without the rises that were spent elsewhere.
    pieces: Vec<Vec<QuotaReading>>,
    features: usize,
    /// Bayesian information criterion: smaller is better.
    badness: f64,
}

/// Divides the readings where a rise cannot be explained, so that it does not raise the costs.
fn solve(segments: &[Vec<QuotaReading>], features: usize) -> Solution {
    let mut pieces: Vec<Vec<QuotaReading>> = segments.to_vec();
    let mut system = System::new(&pieces, features, false);
    for _ in 0..ROUNDS {
        let mut split = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            let mut current: Vec<QuotaReading> = Vec::new();
            for reading in piece {
                if let Some(last) = current.last() {
                    let explained: f64 = difference(reading, last).zip(&system.costs).map(|(x, cost)| x * cost).sum();
                    let rise = reading.percent - last.percent;
                    if rise - explained > UNEXPLAINED + UNEXPLAINED_SHARE * explained {
                        split.push(std::mem::take(&mut current));
                    }
                }
                current.push(reading.clone());
            }
            split.push(current);
        }
        if split.len() == pieces.len() {
            break;
        }
        pieces = split;
        system = System::new(&pieces, features, false);
    }
    let count = pieces.iter().map(Vec::len).sum::<usize>() as f64;
    let parameters = (features + pieces.len()) as f64;
    // Readings are a percent wide: no fit is better than that.
    let variance = (system.residual / count).max(1.0 / 12.0);
    Solution { badness: count * variance.ln() + parameters * count.ln(), pieces, features }
}

/// The costs of one division into pieces.
struct System {
    costs: Vec<f64>,
    /// Squared error of the least-squares solution.
    residual: f64,
}

/// A reading: tokens and percent as differences to the mean of its piece.
struct Equation {
    x: Vec<f64>,
    y: f64,
    piece: usize,
}

impl System {
    /// Fits the costs by least squares, and if asked for by the intervals of the readings, which is slower and closer.
    fn new(pieces: &[Vec<QuotaReading>], features: usize, exact: bool) -> Self {
        let mut rows = rows(pieces, features);
        let scale: Vec<f64> = (0..features)
            .map(|feature| rows.iter().map(|row| row.x[feature] * row.x[feature]).sum::<f64>().sqrt())
            .map(|size| if size > 0.0 { size } else { 1.0 })
            .collect();
        for row in &mut rows {
            row.x.iter_mut().zip(&scale).for_each(|(value, scale)| *value /= scale);
        }
        let factor = Factor::new(&rows, features);
        let mut costs = factor.least_squares(&rows);
        let residual = rows.iter().map(|row| (row.y - dot(&row.x, &costs)).powi(2)).sum();
        if exact {
            costs = middle_of_intervals(&rows, pieces.len(), &factor, costs);
        }
        costs.iter_mut().zip(&scale).for_each(|(cost, scale)| *cost /= scale);
        Self { costs, residual }
    }
}

fn rows(pieces: &[Vec<QuotaReading>], features: usize) -> Vec<Equation> {
    let mut rows = Vec::new();
    for (piece, readings) in pieces.iter().enumerate().filter(|(_, readings)| readings.len() > 1) {
        let count = readings.len() as f64;
        let mean = |pick: &dyn Fn(&QuotaReading) -> f64| readings.iter().map(pick).sum::<f64>() / count;
        let means: Vec<f64> = (0..features).map(|feature| mean(&|reading| reading.spent[feature])).collect();
        let level = mean(&|reading| reading.percent);
        rows.extend(readings.iter().map(|reading| {
            let x = reading.spent.iter().zip(&means).map(|(spent, mean)| spent - mean).collect();
            Equation { x, y: reading.percent - level, piece }
        }));
    }
    rows
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Cholesky factor of the normal matrix: solves it, and tells in which directions the costs are uncertain.
struct Factor {
    lower: Vec<Vec<f64>>,
    normal: Vec<Vec<f64>>,
}

impl Factor {
    fn new(rows: &[Equation], features: usize) -> Self {
        let mut normal = vec![vec![0.0; features]; features];
        for row in rows {
            for (line, one) in normal.iter_mut().zip(&row.x) {
                line.iter_mut().zip(&row.x).for_each(|(sum, other)| *sum += one * other);
            }
        }
        for (feature, line) in normal.iter_mut().enumerate() {
            // Keeps two features that always go together, and one that never occurs, finite.
            line[feature] += 1e-6;
        }
        let mut lower = vec![vec![0.0; features]; features];
        for line in 0..features {
            for column in 0..=line {
                let sum: f64 = (0..column).map(|k| lower[line][k] * lower[column][k]).sum();
                let rest = normal[line][column] - sum;
                lower[line][column] =
                    if line == column { rest.max(1e-12).sqrt() } else { rest / lower[column][column] };
            }
        }
        Self { lower, normal }
    }

    /// Least squares with costs that are not negative, by coordinates.
    fn least_squares(&self, rows: &[Equation]) -> Vec<f64> {
        let features = self.lower.len();
        let mut products = vec![0.0; features];
        for row in rows {
            products.iter_mut().zip(&row.x).for_each(|(sum, value)| *sum += value * row.y);
        }
        let mut costs = vec![0.0; features];
        for _ in 0..COORDINATE_STEPS {
            let mut moved: f64 = 0.0;
            for feature in 0..features {
                let slope = products[feature] - dot(&self.normal[feature], &costs);
                let next = (costs[feature] + slope / self.normal[feature][feature]).max(0.0);
                moved = moved.max((next - costs[feature]).abs());
                costs[feature] = next;
            }
            if moved < 1e-9 {
                break;
            }
        }
        costs
    }

    /// A direction in which all uncertainty is equally large.
    fn direction(&self, rng: &mut StdRng) -> Vec<f64> {
        let features = self.lower.len();
        let mut direction: Vec<f64> = (0..features).map(|_| rng.random_range(-1.0..1.0)).collect();
        for line in (0..features).rev() {
            let sum: f64 = (line + 1..features).map(|k| self.lower[k][line] * direction[k]).sum();
            direction[line] = (direction[line] - sum) / self.lower[line][line];
        }
        direction
    }
}

/// The mean of all costs that keep every reading within its interval, by a random walk through them. Where no costs do, the
/// intervals are as wide as they must be.
fn middle_of_intervals(rows: &[Equation], pieces: usize, factor: &Factor, mut costs: Vec<f64>) -> Vec<f64> {
    // The walk is the same for the same ledger.
    let mut rng = StdRng::seed_from_u64(0);
    let mut errors: Vec<f64> = rows.iter().map(|row| row.y - dot(&row.x, &costs)).collect();
    let sizes = {
        let mut sizes = vec![0.0_f64; pieces];
        rows.iter().for_each(|row| sizes[row.piece] += 1.0);
        sizes
    };
    let mut sum = vec![0.0; costs.len()];
    let mut slopes = vec![0.0; rows.len()];
    for step in 0..BURN_IN + WALK {
        let width = errors.iter().fold(0.5, |width: f64, error| width.max(error.abs())) + 1e-9;
        let direction = factor.direction(&mut rng);
        let level_direction: Vec<f64> = sizes
            .iter()
            .map(|size| if *size > 0.0 { rng.random_range(-1.0..1.0) / size.sqrt() } else { 0.0 })
            .collect();
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut bound = |value: f64, slope: f64, low: f64, high: f64| {
            if slope.abs() > 1e-15 {
                let (one, other) = ((low - value) / slope, (high - value) / slope);
                (least, most) = (least.max(one.min(other)), most.min(one.max(other)));
            }
        };
        for ((slope, row), error) in slopes.iter_mut().zip(rows).zip(&errors) {
            *slope = -(dot(&row.x, &direction) + level_direction[row.piece]);
            bound(*error, *slope, -width, width);
        }
        costs.iter().zip(&direction).for_each(|(cost, slope)| bound(*cost, *slope, 0.0, f64::INFINITY));
        if !(least.is_finite() && most.is_finite() && least < most) {
            continue;
        }
        let length = rng.random_range(least..most);
        errors.iter_mut().zip(&slopes).for_each(|(error, slope)| *error += length * slope);
        costs.iter_mut().zip(&direction).for_each(|(cost, slope)| *cost = (*cost + length * slope).max(0.0));
        if step >= BURN_IN {
            sum.iter_mut().zip(&costs).for_each(|(sum, cost)| *sum += cost / f64::from(WALK));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Sample;
    use super::*;

    const START: i64 = 1_795_757_911_000;
    const MINUTE: i64 = 60_000;

    /// A session as users have them: a prompt that grows and is compacted, answers of very different length.
    struct Trace {
        entries: Vec<LedgerEntry>,
        weight: Weight,
        /// Exact percent after each request.
        exact: Vec<f64>,
    }

    fn trace(seed: u64, turns: usize, total: f64, foreign: impl Fn(usize) -> f64) -> Trace {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut spread = |middle: f64| middle * (rng.random_range(-1.0..1.0_f64) * 1.1).exp();
        let mut context = 12_000.0;
        let tokens: Vec<TokenCounts> = (0..turns)
            .map(|_| {
                let uncached = spread(5_000.0);
                let output = spread(1_200.0);
                let cached = context;
                context += uncached + output;
                if context > 160_000.0 {
                    context = 20_000.0;
                }
                TokenCounts { uncached: uncached as u64, cached: cached as u64, output: output as u64, reasoning: 0 }
            })
            .collect();
        let mut weight = Weight { uncached: 1.0, cached: spread(0.08), output: spread(4.0) };
        let sum: f64 = tokens.iter().map(|tokens| weight.cost(tokens)).sum();
        for part in [&mut weight.uncached, &mut weight.cached, &mut weight.output] {
            *part *= total / sum;
        }
        let (mut percent, mut at) = (0.0, START);
        let (mut entries, mut exact) = (Vec::new(), Vec::new());
        for (turn, tokens) in tokens.into_iter().enumerate() {
            at += MINUTE + (turn as i64 * 7919) % 40_000;
            percent += weight.cost(&tokens) + foreign(turn);
            exact.push(percent);
            let sample =
                Sample { window: "5h".to_owned(), percent: percent.floor(), resets_at: Some(START / 1000 + 18_000) };
            let model = "k3".to_owned();
            entries.push(LedgerEntry {
                at,
                model,
                tokens,
                sampled_at: at + 500,
                samples: vec![sample],
                ..LedgerEntry::default()
            });
        }
        Trace { entries, weight, exact }
    }

    fn worst(fit: &Fit, weight: &Weight) -> f64 {
        let found = fit.weights["k3"];
        [(found.uncached, weight.uncached), (found.cached, weight.cached), (found.output, weight.output)]
            .into_iter()
            .map(|(found, exact)| (found / exact - 1.0).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn token_costs_hidden_weights_are_found_within_a_tenth() {
        let errors: Vec<f64> = (0..50)
            .map(|seed| {
                let Trace { entries, weight, .. } = trace(seed, 200, 85.0, |_| 0.0);
                worst(&fit(&entries, "5h").unwrap(), &weight)
            })
            .collect();
        let good = errors.iter().filter(|error| **error <= 0.1).count();
        assert!(good >= 48, "{good} of 50: {errors:.3?}");
    }

    #[test]
    fn token_costs_spending_elsewhere_is_told_apart() {
        let patterns: [(&str, &dyn Fn(usize) -> f64); 3] = [
            ("none", &|_| 0.0),
            ("bursts", &|turn| if turn % 40 == 17 { 4.0 } else { 0.0 }),
            ("one burst", &|turn| if turn == 90 { 15.0 } else { 0.0 }),
        ];
        for (name, foreign) in patterns {
            let misses: Vec<(f64, f64)> = (0..20)
                .map(|seed| {
                    let Trace { entries, weight, .. } = trace(seed, 200, 70.0, foreign);
                    let fit = fit(&entries, "5h").unwrap();
                    let spent: f64 = (1..200).map(foreign).sum();
                    (fit.elsewhere - spent, worst(&fit, &weight))
                })
                .collect();
            let good = misses.iter().filter(|(miss, _)| miss.abs() <= 2.0).count();
            assert!(good >= 19, "{name}: {good} of 20: {misses:.2?}");
        }
    }

    #[test]
    fn forecast_time_of_exhaustion_is_within_a_tenth_of_what_is_left() {
        let mut missed = Vec::new();
        for seed in 0..50 {
            let Trace { entries, exact, .. } = trace(seed, 400, 130.0, |_| 0.0);
            let full = exact.iter().position(|percent| *percent >= 100.0).unwrap();
            let now = exact.iter().position(|percent| *percent >= 50.0).unwrap();
            let known = &entries[..=now];
            // The window of the trace would open before it is used up.
            let mut fit = fit(known, "5h").unwrap();
            fit.last.resets_at = None;
            let predicted = fit.full_at(known, entries[now].at).unwrap();
            let (left, told) = (entries[full].at - entries[now].at, predicted - entries[now].at);
            let miss = told as f64 / left as f64 - 1.0;
            if miss.abs() > 0.1 {
                missed.push((seed, miss));
            }
        }
        assert!(missed.len() <= 5, "{missed:.2?}");
    }

    #[test]
    fn token_costs_and_forecast_say_nothing_with_too_few_readings_or_before_the_reset() {
        let Trace { entries, .. } = trace(1, 19, 50.0, |_| 0.0);
        assert_eq!(fit(&entries, "5h"), None);
        let Trace { entries, .. } = trace(1, 100, 10.0, |_| 0.0);
        let fit = fit(&entries, "5h").unwrap();
        assert_eq!(fit.full_at(&entries, entries[99].at), None);
    }

    #[test]
    fn token_costs_a_cache_that_no_reading_tells_about_is_no_dearer_than_reading() {
        let Trace { mut entries, .. } = trace(5, 60, 40.0, |_| 0.0);
        entries.iter_mut().for_each(|entry| entry.tokens.cached = 0);
        let weight = fit(&entries, "5h").unwrap().weights["k3"];
        assert!(weight.cached <= weight.uncached && weight.uncached < 0.01, "{weight:?}");
    }

    #[test]
    fn token_costs_two_periods_and_two_models_are_kept_apart() {
        let Trace { mut entries, weight, .. } = trace(3, 150, 90.0, |_| 0.0);
        let Trace { entries: later, .. } = trace(4, 150, 90.0, |_| 0.0);
        entries.extend(later.into_iter().map(|mut entry| {
            entry.at += 6 * 3_600_000;
            entry.sampled_at += 6 * 3_600_000;
            entry.model = "k2".to_owned();
            entry.samples[0].resets_at = entry.samples[0].resets_at.map(|at| at + 6 * 3_600);
            entry
        }));
        let fit = fit(&entries, "5h").unwrap();
        assert!(worst(&fit, &weight) < 0.12, "{:?} {weight:?}", fit.weights);
        assert!(fit.elsewhere < 2.0);
    }
}
