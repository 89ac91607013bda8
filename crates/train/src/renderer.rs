//! What Burn's terminal UI shows, and stand-ins for where the journal shows it instead.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Metric, MetricAttributes, MetricDefinition, MetricMetadata, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

use crate::journal::StepFigures;

/// A figure of the last step as one of Burn's metrics.
#[derive(Clone)]
pub(crate) struct StepMetric {
    name: Arc<String>,
    pick: fn(&StepFigures) -> f64,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl StepMetric {
    pub fn new(name: &str, higher_is_better: bool, pick: fn(&StepFigures) -> f64) -> Self {
        Self {
            name: Arc::new(name.to_owned()),
            pick,
            higher_is_better,
            state: NumericMetricState::default(),
        }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(Arc::clone(&self.name)).precision(3)
    }
}

impl Metric for StepMetric {
    type Input = StepFigures;

    fn name(&self) -> Arc<String> {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        let higher_is_better = self.higher_is_better;
        NumericAttributes {
            unit: None,
            higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        figures: &StepFigures,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update((self.pick)(figures), 1);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// A metric logger that keeps nothing: the journal has its own files.
pub(crate) struct NoMetricLog;

impl MetricLogger for NoMetricLog {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}
    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }
    fn log_metric_definition(&mut self, _: MetricDefinition) {}
    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

/// A renderer that shows nothing.
#[derive(Debug)]
pub(crate) struct NoRenderer;

type Rendered = Result<(), Box<dyn core::error::Error>>;

impl MetricsRendererTraining for NoRenderer {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Rendered {
        Ok(())
    }
}

impl MetricsRendererEvaluation for NoRenderer {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
    fn on_test_end(&mut self, _: Option<LearnerSummary>) -> Rendered {
        Ok(())
    }
}

impl TrainingProgressLogger for NoRenderer {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
    fn end(&mut self) {}
}

impl EvaluationProgressLogger for NoRenderer {
    fn start_global_progress(&mut self, _: usize) {}
    fn log_event_evaluation(&mut self, _: String) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
}

impl MetricsRenderer for NoRenderer {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}
