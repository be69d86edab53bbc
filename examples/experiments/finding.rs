//! The result of an experiment: the published numbers beside the same mechanism here, and the figures of this crate
//! beside their bounds.

use crate::lab::Means;
use std::{borrow::Borrow, fmt};

/// How far a reproduced number may be from the published one: one tenth.
const TOLERANCE: f64 = 0.1;

/// The result of one experiment, or of a part of it.
pub struct Finding {
    /// The id of the experiment.
    pub id: &'static str,
    pub what: &'static str,
    pub anchors: Vec<Anchor>,
    pub figures: Vec<Figure>,
    pub to_come: Option<ToCome>,
}

/// The target of a mechanism that this crate does not have yet.
pub struct ToCome {
    /// The published numbers, if they are not among the anchors.
    pub anchor: &'static str,
    pub reach: &'static str,
}

/// Published numbers of a textbook mechanism, and the numbers of the same mechanism in this simulation. If they differ,
/// no result of the simulation can be trusted.
pub struct Anchor {
    pub name: &'static str,
    pub published: Vec<f64>,
    pub reproduced: Vec<f64>,
}

/// Numbers of this crate, and their bounds.
pub struct Figure {
    pub name: &'static str,
    pub wanted: Vec<Bound>,
    /// On the model's seeds.
    pub got: Vec<f64>,
    /// Half the widths of their confidence intervals, where they are means of several runs.
    pub half_widths: Vec<f64>,
    /// On seeds that were not used to tune anything.
    pub on_other_seeds: Vec<f64>,
}

/// The bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Within(f64, f64),
    /// No bound: the figure is only reported.
    Free,
}

/// The verdict on the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Ok,
    Short,
    Later,
}

impl Finding {
    /// The part that cannot run yet.
    pub fn later(id: &'static str, what: &'static str, anchor: &'static str, reach: &'static str) -> Self {
        Self { id, what, anchors: Vec::new(), figures: Vec::new(), to_come: Some(ToCome { anchor, reach }) }
    }

    pub fn verdict(&self) -> Verdict {
        if !self.anchors.iter().all(Anchor::holds) || !self.figures.iter().all(Figure::holds) {
            Verdict::Short
        } else if self.to_come.is_some() {
            Verdict::Later
        } else {
            Verdict::Ok
        }
    }
}

impl Anchor {
    pub fn new<const N: usize>(name: &'static str, published: [f64; N], reproduced: [f64; N]) -> Self {
        Self { name, published: published.to_vec(), reproduced: reproduced.to_vec() }
    }

    /// Creates an anchor from one number of each of several runs.
    pub fn column<const N: usize, const M: usize>(
        name: &'static str,
        published: [f64; M],
        runs: &[[f64; N]],
        number: usize,
    ) -> Self {
        let reproduced = runs.iter().map(|numbers| numbers[number]).collect();
        Self { name, published: published.to_vec(), reproduced }
    }

    pub fn holds(&self) -> bool {
        self.published.len() == self.reproduced.len()
            && self.published.iter().zip(&self.reproduced).all(|(published, reproduced)| {
                // A published zero has no tenth; it was rounded to two digits.
                (reproduced - published).abs() <= (published * TOLERANCE).max(0.005)
            })
    }
}

impl Figure {
    pub fn new<const N: usize>(name: &'static str, wanted: [Bound; N], means: Means<N>) -> Self {
        let [got, half_widths, on_other_seeds] =
            [means.model, means.half_widths, means.others].map(|numbers| numbers.to_vec());
        Self { name, wanted: wanted.to_vec(), got, half_widths, on_other_seeds }
    }

    /// Creates a figure from one number of each of several runs.
    pub fn column<const N: usize, const M: usize>(
        name: &'static str,
        wanted: [Bound; M],
        runs: &[impl Borrow<Means<N>>],
        number: usize,
    ) -> Self {
        let column =
            |numbers: fn(&Means<N>) -> &[f64; N]| runs.iter().map(|run| numbers(run.borrow())[number]).collect();
        let (got, half_widths) = (column(|run| &run.model), column(|run| &run.half_widths));
        Self { name, wanted: wanted.to_vec(), got, half_widths, on_other_seeds: column(|run| &run.others) }
    }

    pub fn holds(&self) -> bool {
        let keeps = |numbers: &[f64]| {
            let all = self.wanted.iter().zip(numbers).all(|(bound, number)| bound.allows(*number));
            all && numbers.len() == self.wanted.len()
        };
        keeps(&self.got) && keeps(&self.on_other_seeds)
    }
}

impl Bound {
    /// Returns the bound of a tenth around a published number.
    pub fn near(published: f64) -> Self {
        Self::Within(published * (1.0 - TOLERANCE), published * (1.0 + TOLERANCE))
    }

    fn allows(self, number: f64) -> bool {
        match self {
            Self::AtLeast(least) => number >= least,
            Self::AtMost(most) => number <= most,
            Self::Within(least, most) => (least..=most).contains(&number),
            Self::Free => true,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
            Self::Within(least, most) => write!(f, "{} to {}", number(*least), number(*most)),
            Self::Free => f.write_str("reported"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Short => "short",
            Self::Later => "later",
        })
    }
}

/// Formats a number with as many digits as are significant here.
pub fn number(number: f64) -> String {
    let text = match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
