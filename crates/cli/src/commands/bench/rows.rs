//! The rows of the table.

use serde::Serialize;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Encoding a batch of pictures.
    Images,
    /// The same with `--precision int8`, against the other side's f32.
    ImagesInt8,
    /// Encoding captions that fill their context.
    Texts,
    /// Encoding captions of ten tokens, as a class name in a prompt has.
    ShortTexts,
    /// A whole training step, of captions that fill their context.
    Train,
    /// The same of captions of twenty tokens, which leave most of the context empty as people's do.
    ShortTrain,
    /// AdamW's update of all parameters.
    Update,
    /// A contrastive loss and the gradient of every feature.
    Loss,
    /// Pictures from files to the model's input, on one thread.
    Loader,
    /// Captions to ids, on one thread.
    Tokenizer,
    /// From the start of a process to the answer of `classify`.
    Start,
    /// The most memory of a process that encodes pictures.
    EncodeMemory,
    /// The most memory of a process that trains.
    TrainMemory,
}

/// How the figures of a work read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// So many in a second.
    PerSecond(&'static str),
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Work {
    /// Of its figures.
    pub fn unit(self) -> Unit {
        match self {
            Self::Images | Self::ImagesInt8 | Self::Loader => Unit::PerSecond("images/s"),
            Self::Texts | Self::ShortTexts | Self::Tokenizer => Unit::PerSecond("captions/s"),
            Self::Train | Self::ShortTrain => Unit::PerSecond("samples/s"),
            Self::Update | Self::Loss | Self::Start => Unit::Seconds,
            Self::EncodeMemory | Self::TrainMemory => Unit::Bytes,
        }
    }

    /// Whether a figure stands for a whole batch, and not for one sample of it.
    pub fn is_counted(self) -> bool {
        matches!(
            self,
            Self::Images
                | Self::ImagesInt8
                | Self::Texts
                | Self::ShortTexts
                | Self::Train
                | Self::ShortTrain
        )
    }

    /// Whether each measurement is a process of its own.
    pub fn is_process(self) -> bool {
        matches!(self, Self::Start | Self::EncodeMemory | Self::TrainMemory)
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What is measured.
    pub work: Work,
    /// Of which model.
    pub model: String,
    /// Samples that go through together; features of a loss; captions; pictures.
    pub size: usize,
}

impl Row {
    fn new(work: Work, model: &str, size: usize) -> Self {
        Self {
            work,
            model: model.to_owned(),
            size,
        }
    }

    /// As the table has it.
    pub fn name(&self) -> String {
        let Self { work, model, size } = self;
        match work {
            Work::Images => format!("{model} image encode, batch {size}"),
            Work::ImagesInt8 => format!("{model} image encode in int8, batch {size}"),
            Work::Texts => format!("{model} text encode, full context, batch {size}"),
            Work::ShortTexts => format!("{model} text encode, ten tokens, batch {size}"),
            Work::Train => format!("{model} train step, full context, batch {size}"),
            Work::ShortTrain => format!("{model} train step, twenty tokens, batch {size}"),
            Work::Update => format!("{model} AdamW step"),
            Work::Loss => format!("contrastive loss and gradient, {size} × 512"),
            Work::Loader => "JPEG 512×384 to model input, one thread".to_owned(),
            Work::Tokenizer => "CLIP tokenizer, one thread".to_owned(),
            Work::Start => format!("{model} classify, start to answer"),
            Work::EncodeMemory => format!("{model} encode, batch {size}, peak memory"),
            Work::TrainMemory => format!("{model} train step, batch {size}, peak memory"),
        }
    }
}

/// Rows of `model` alone, with batches of `batch`.
pub fn of_model(model: &str, batch: usize) -> Vec<Row> {
    let row = |work, size| Row::new(work, model, size);
    vec![
        row(Work::Images, 1),
        row(Work::Images, batch),
        row(Work::Texts, 1),
        row(Work::Texts, batch),
        row(Work::ShortTexts, batch),
        row(Work::Train, batch),
        row(Work::ShortTrain, batch),
        row(Work::Update, 1),
        row(Work::EncodeMemory, batch),
        row(Work::TrainMemory, batch),
    ]
}

/// The whole table.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for (model, batches) in [
        ("ViT-B-32", [1, 16]),
        ("ViT-B-16", [1, 16]),
        ("ViT-L-14", [1, 16]),
        ("RN50", [1, 4]),
        ("convnext_base", [1, 4]),
        ("MobileCLIP-S1", [1, 4]),
        ("ViTamin-S", [1, 4]),
        ("ViT-B-16-SigLIP", [1, 4]),
    ] {
        let row = |work, size| Row::new(work, model, size);
        rows.extend(batches.map(|batch| row(Work::Images, batch)));
        if model == "ViT-B-32" {
            rows.extend(batches.map(|batch| row(Work::ImagesInt8, batch)));
            rows.extend([1, 32].map(|batch| row(Work::Texts, batch)));
            rows.extend([1, 32].map(|batch| row(Work::ShortTexts, batch)));
            rows.extend([Work::Train, Work::ShortTrain].map(|work| row(work, 16)));
            rows.push(row(Work::Update, 1));
        }
        if model == "RN50" {
            rows.push(row(Work::Train, 4));
        }
    }
    rows.extend([1024, 8192, 32768].map(|pairs| Row::new(Work::Loss, "", pairs)));
    rows.extend([
        Row::new(Work::Loader, "", 32),
        Row::new(Work::Tokenizer, "", 20_000),
        Row::new(Work::Start, "ViT-B-32", 1),
        Row::new(Work::EncodeMemory, "ViT-B-32", 16),
        Row::new(Work::TrainMemory, "ViT-B-32", 16),
    ]);
    rows
}
