//! Parquet files. A row group is read column by column, each page by page, and no other column than those that are wanted.

mod carried;

use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Type};
use parquet::column::reader::{
    ColumnReader, ColumnReaderImpl, get_column_reader, get_typed_column_reader,
};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::SerializedPageReader;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use self::carried::CarriedValues;
use super::super::columns::Columns;
use super::super::{Field, Item, ProblemKind};
use super::fault::{Fault, panicked};
use super::input::{Input, Pages, Part};
use super::row::{Push, Rows, Unmade};
use super::schema::{Kind, Leaf, Role, Selection};
use crate::storage::Place;

/// Bytes at the end of a file that are read first; most footers lie within them.
const TAIL: u64 = 64 << 10;
/// Largest footer that is read.
const MAX_FOOTER: u64 = 1 << 30;
/// Rows that are taken out of a column at a time.
const BATCH: u64 = 16;
/// Names that the elements of a list have in the files of different writers.
const ELEMENTS: [&str; 6] = ["list", "element", "item", "bag", "array", "array_element"];

/// One file.
#[derive(Debug)]
pub(super) struct File {
    input: Input,
    pub rows: Rows,
    /// What tells its content from that of another day.
    pub version: String,
    /// The columns that are read, by [`Role`].
    columns: [Option<ColumnDescPtr>; Role::ALL.len()],
    /// Those that go along, with their names.
    carried: Vec<(Arc<str>, ColumnDescPtr)>,
}

/// One row group of a file.
#[derive(Debug)]
pub(super) struct RowGroup {
    pub file: Arc<File>,
    /// Its place in the file.
    pub number: usize,
    /// The row of the file with which it begins.
    pub first_row: u64,
    pub len: u64,
    chunks: [Option<Chunk>; Role::ALL.len()],
    /// Of the columns that go along.
    carried: Vec<Chunk>,
}

/// Where the values of a column lie. The footer says more, and a data set has many row groups.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u64,
    length: u64,
    data_pages: u64,
    values: i64,
    compression: Compression,
}

/// The row groups of a file.
///
/// # Errors
/// When the file cannot be read, is no parquet file, or has no column to read.
pub(super) fn open(input: Input, columns: &Columns) -> Result<Vec<RowGroup>, Fault> {
    let length = input.len()?;
    let metadata = catch_unwind(AssertUnwindSafe(|| footer(&input, length)));
    let (metadata, sum) = metadata.unwrap_or_else(|payload| Err(panicked(payload.as_ref())))?;
    let version = input
        .0
        .version()
        .unwrap_or_else(|| format!("{length} {sum}"));
    let schema = metadata.file_metadata().schema_descr();
    let leaves: Vec<Leaf> = schema.columns().iter().map(|column| leaf(column)).collect();
    let selection = Selection::new(&leaves, columns).map_err(|misfit| misfit.with(&leaves))?;
    let chosen = selection.leaves;
    let others = selection.others(leaves.len());
    let carried: Vec<usize> = others
        .filter(|leaf| columns.carried && carried::can_be(&leaves[*leaf], &schema.column(*leaf)))
        .collect();
    let file = Arc::new(File {
        columns: chosen.map(|leaf| leaf.map(|leaf| schema.column(leaf))),
        carried: carried
            .iter()
            .map(|leaf| (leaves[*leaf].path.join(".").into(), schema.column(*leaf)))
            .collect(),
        rows: Rows::new(&input.0, selection),
        version,
        input,
    });
    let mut first_row = 0;
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let damaged = || Fault::Broken(format!("row group {number} is damaged"));
        // What a group of more rows says is not so: its writer would have needed their memory.
        let len = u32::try_from(group.num_rows()).map_err(|_| damaged())?;
        if len == 0 {
            continue;
        }
        let mut chunks = [None; Role::ALL.len()];
        for (chunk, leaf) in chunks.iter_mut().zip(chosen) {
            let Some(leaf) = leaf else { continue };
            *chunk = Some(self::chunk(group, leaf, length)?.ok_or_else(damaged)?);
        }
        let of_carried = |leaf: &usize| self::chunk(group, *leaf, length)?.ok_or_else(damaged);
        groups.push(RowGroup {
            carried: carried
                .iter()
                .map(of_carried)
                .collect::<Result<_, Fault>>()?,
            file: Arc::clone(&file),
            number,
            first_row,
            len: u64::from(len),
            chunks,
        });
        first_row += u64::from(len);
    }
    Ok(groups)
}

/// Reads the description at the end of a file, with a sum of its bytes.
fn footer(input: &Input, length: u64) -> Result<(ParquetMetaData, u32), Fault> {
    let broken = |reason: &str| Err(Fault::Broken(reason.to_owned()));
    let tail = input.read_range(length - TAIL.min(length), TAIL.min(length))?;
    let Some((before, end)) = tail.split_last_chunk::<8>() else {
        return broken("not a parquet file: shorter than its footer");
    };
    if !end.ends_with(b"PAR1") && !end.ends_with(b"PARE") {
        let start = input.read_range(0, 4)?;
        return broken(match start == *b"PAR1" {
            true => "cut off: a parquet file by its first bytes, without the footer at its end",
            false => "not a parquet file",
        });
    }
    let end = FooterTail::try_new(end)?;
    if end.is_encrypted_footer() {
        return broken("encrypted, which is not read");
    }
    let size = end.metadata_length() as u64;
    if size + 8 > length || size > MAX_FOOTER {
        return broken("its footer is longer than the file");
    }
    let far;
    let bytes = match before.len().checked_sub(size as usize) {
        Some(start) => &before[start..],
        None => {
            far = input.read_range(length - 8 - size, size)?;
            &far[..]
        }
    };
    Ok((
        ParquetMetaDataReader::decode_metadata(bytes)?,
        crc32fast::hash(bytes),
    ))
}

/// Where a column of a row group lies; `None` where it cannot be so.
fn chunk(group: &RowGroupMetaData, leaf: usize, file: u64) -> Result<Option<Chunk>, Fault> {
    let column = group.column(leaf);
    let name = column.column_path().string();
    if column.file_path().is_some() {
        return Err(Fault::Broken(format!(
            "column {name} is in another file, which is not read"
        )));
    }
    let compression = column.compression();
    if matches!(compression, Compression::LZO | Compression::BROTLI(_)) {
        let codec = compression.to_string().to_lowercase();
        let codec = codec.split('(').next().unwrap_or_default();
        return Err(Fault::Broken(format!(
            "column {name} is compressed with {codec}; snappy, zstd, gzip, lz4 and plain columns are read"
        )));
    }
    let number = |value: i64| u64::try_from(value).ok();
    let place = || {
        let data_pages = number(column.data_page_offset())?;
        // Writers that have no dictionary leave the offset out, or say 0.
        let dictionary = column.dictionary_page_offset().and_then(number);
        let dictionary = dictionary.filter(|at| (1..data_pages).contains(at));
        let start = dictionary.unwrap_or(data_pages);
        let length = number(column.compressed_size())?;
        start.checked_add(length).filter(|end| *end <= file)?;
        Some(Chunk {
            start,
            length,
            data_pages,
            values: column.num_values(),
            compression,
        })
    };
    Ok(place())
}

fn leaf(column: &ColumnDescriptor) -> Leaf {
    let parts = column.path().parts();
    let is_list = column.max_rep_level() > 0;
    let is_name =
        |(at, part): &(usize, &String)| *at == 0 || !is_list || !ELEMENTS.contains(&part.as_str());
    let path = parts.iter().enumerate().filter(is_name);
    Leaf {
        path: path.map(|(_, part)| part.clone()).collect(),
        kind: kind(column),
        is_list,
    }
}

fn kind(column: &ColumnDescriptor) -> Kind {
    let is_text = matches!(
        column.converted_type(),
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
    ) || matches!(
        column.logical_type_ref(),
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)
    );
    let is_number = column.converted_type() == ConvertedType::DECIMAL;
    match (column.max_rep_level(), column.physical_type()) {
        (0 | 1, Type::BYTE_ARRAY) if is_text => Kind::Text,
        (0 | 1, Type::BYTE_ARRAY) if !is_number => Kind::Binary,
        (0, other) => Kind::Other(other.to_string()),
        (1, other) => Kind::Other(format!("a list of {other}")),
        (_, other) => Kind::Other(format!("a list of lists of {other}")),
    }
}

impl RowGroup {
    /// Pushes some rows, given by ascending ranges of their numbers within the group. Each is one item, also where the file cannot be
    /// read on.
    pub fn read(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        push: &mut Push<'_>,
    ) -> ControlFlow<()> {
        let mut columns = self.columns();
        let mut at = 0;
        for range in ranges {
            let mut row = range.start;
            while row < range.end {
                let count = BATCH.min(range.end - row);
                let batch = columns.and_then(|mut columns| {
                    let read = || columns.read(row - at, count);
                    let batch = catch_unwind(AssertUnwindSafe(read));
                    let batch = batch.unwrap_or_else(|payload| Err(panicked(payload.as_ref())))?;
                    Ok((columns, batch))
                });
                columns = match batch {
                    Ok((columns, mut batch)) => {
                        self.push(row, count, &mut batch, push)?;
                        Ok(columns)
                    }
                    Err(fault) => {
                        for row in row..row + count {
                            let item = self.unreadable(row, &fault);
                            push(row, Unmade::new(0, || item))?;
                        }
                        Err(fault)
                    }
                };
                row += count;
                at = row;
            }
        }
        ControlFlow::Continue(())
    }

    fn push(
        &self,
        first: u64,
        count: u64,
        batch: &mut Batch,
        push: &mut Push<'_>,
    ) -> ControlFlow<()> {
        (0..count).try_for_each(|at| {
            let value = |column: &Option<Vec<Option<ByteArray>>>| {
                let value = column.as_ref()?.get(at as usize)?;
                value.clone()
            };
            let values: [_; Role::ALL.len()] = [0, 1, 2, 3].map(|role| value(&batch.cells[role]));
            let row = first + at;
            let fields = batch.carried.iter_mut().map(|(name, values)| {
                let value = values.get_mut(at as usize).and_then(Option::take);
                (Arc::clone(name), value)
            });
            let fields = fields.collect();
            let bytes = values.iter().flatten().map(ByteArray::len).sum();
            let (file, number) = (Arc::clone(&self.file), self.first_row + row);
            let make = move || {
                let cells = values.each_ref();
                let cells = cells.map(|value| value.as_ref().map(ByteArray::data));
                file.rows.item(number, cells, fields)
            };
            push(row, Unmade::new(bytes, make))
        })
    }

    fn unreadable(&self, row: u64, fault: &Fault) -> Item {
        let reason = format!("row group {}: {fault}", self.number);
        let kind = ProblemKind::UnreadableImage;
        self.file.rows.problem(self.first_row + row, kind, reason)
    }

    fn columns(&self) -> Result<ColumnReaders, Fault> {
        let mut readers = [const { None }; Role::ALL.len()];
        for (role, reader) in readers.iter_mut().enumerate() {
            if let (Some(chunk), Some(column)) = (&self.chunks[role], &self.file.columns[role]) {
                *reader = Some(ColumnValues::new(
                    &self.file.input,
                    chunk,
                    column,
                    self.len,
                )?);
            }
        }
        let carried = self.carried.iter().zip(&self.file.carried);
        let carried = carried.map(|(chunk, (name, column))| {
            Ok(CarriedValues {
                name: Arc::clone(name),
                reader: reader(&self.file.input, chunk, column, self.len)?,
                level: column.max_def_level(),
            })
        });
        Ok(ColumnReaders {
            cells: readers,
            carried: carried.collect::<Result<_, Fault>>()?,
        })
    }
}

impl File {
    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.input.0
    }
}

/// The values of some rows, of every column that is read.
struct Batch {
    cells: [Option<Vec<Option<ByteArray>>>; Role::ALL.len()],
    carried: Vec<(Arc<str>, Vec<Option<Field>>)>,
}

/// The columns of a row group, side by side.
struct ColumnReaders {
    cells: [Option<ColumnValues>; Role::ALL.len()],
    carried: Vec<CarriedValues>,
}

impl ColumnReaders {
    /// Passes over some rows and reads those behind them.
    fn read(&mut self, skipped: u64, count: u64) -> Result<Batch, Fault> {
        let (skipped, count) = (skipped as usize, count as usize);
        let mut cells = [const { None }; Role::ALL.len()];
        for (values, column) in cells.iter_mut().zip(&mut self.cells) {
            if let Some(column) = column {
                *values = Some(column.read(skipped, count)?);
            }
        }
        let mut carried = Vec::with_capacity(self.carried.len());
        // What goes along is not worth the rows that it belongs to.
        self.carried
            .retain_mut(|column| match column.read(skipped, count) {
                Ok(values) => {
                    carried.push((Arc::clone(&column.name), values));
                    true
                }
                Err(fault) => {
                    log::warn!("column {} is left out from here on: {fault}", column.name);
                    false
                }
            });
        Ok(Batch { cells, carried })
    }
}

/// One column of a row group.
struct ColumnValues {
    reader: ColumnReaderImpl<ByteArrayType>,
    column: ColumnDescPtr,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    values: Vec<ByteArray>,
}

impl ColumnValues {
    fn new(input: &Input, chunk: &Chunk, column: &ColumnDescPtr, rows: u64) -> Result<Self, Fault> {
        let reader = reader(input, chunk, column, rows)?;
        Ok(Self {
            reader: get_typed_column_reader(reader),
            column: Arc::clone(column),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            values: Vec::new(),
        })
    }

    /// The first value of each row.
    fn read(&mut self, skipped: usize, count: usize) -> Result<Vec<Option<ByteArray>>, Fault> {
        let cut = || {
            let name = self.column.path().string();
            Fault::Broken(format!("column {name} has fewer rows than its row group"))
        };
        if self.reader.skip_records(skipped)? < skipped {
            return Err(cut());
        }
        self.definitions.clear();
        self.repetitions.clear();
        self.values.clear();
        let (records, _, levels) = self.reader.read_records(
            count,
            Some(&mut self.definitions),
            Some(&mut self.repetitions),
            &mut self.values,
        )?;
        if records < count {
            return Err(cut());
        }
        let mut values = self.values.drain(..);
        let mut rows = Vec::with_capacity(count);
        for level in 0..levels {
            let is_there = match self.definitions.get(level) {
                Some(level) => *level == self.column.max_def_level(),
                None => true,
            };
            let value = if is_there { values.next() } else { None };
            match self.repetitions.get(level) {
                // Another element of the same row.
                Some(1..) => {
                    if let Some(row @ None) = rows.last_mut() {
                        *row = value;
                    }
                }
                _ => rows.push(value),
            }
        }
        Ok(rows)
    }
}

/// What reads a column of a row group.
fn reader(
    input: &Input,
    chunk: &Chunk,
    column: &ColumnDescPtr,
    rows: u64,
) -> Result<ColumnReader, Fault> {
    let has_dictionary = chunk.start < chunk.data_pages;
    let metadata = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_compression(chunk.compression)
        .set_data_page_offset(chunk.data_pages as i64)
        .set_dictionary_page_offset(has_dictionary.then_some(chunk.start as i64))
        .set_total_compressed_size(chunk.length as i64)
        .set_num_values(chunk.values)
        .build()?;
    let part = Arc::new(Part::new(input, chunk.start + chunk.length));
    let pages = SerializedPageReader::new(Arc::new(Pages(part)), &metadata, rows as usize, None)?;
    Ok(get_column_reader(Arc::clone(column), Box::new(pages)))
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::General(reason) | ParquetError::EOF(reason) => Self::Broken(reason),
            ParquetError::External(source) => Self::Broken(source.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}
