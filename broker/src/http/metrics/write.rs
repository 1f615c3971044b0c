//! Writing single metrics: a scrape reads its figures where they are kept anyway.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A metric's name and what it means. Counters' names without `_total`.
pub(super) type Name<'a> = (&'a str, &'a str);

/// Writes a gauge without labels.
pub(super) fn gauge(encoder: &mut DescriptorEncoder<'_>, (name, help): Name<'_>, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// Writes a counter without labels.
pub(super) fn counter(encoder: &mut DescriptorEncoder<'_>, (name, help): Name<'_>, value: f64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

/// Writes a gauge for each set of labels.
pub(super) fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Name<'_>,
    values: impl Iterator<Item = (L, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Writes a histogram of seconds from counts by upper bounds in microseconds; the last count is of what is slower.
pub(super) fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Name<'_>,
    bounds_us: &[u64],
    counts: &[u64],
    sum_us: u64,
) -> fmt::Result {
    let bounds = bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(sum_us as f64 / 1e6, counts.iter().sum(), &buckets, None)
}
