//! Arrow's IPC files, in either form: a stream of messages, as `datasets` keeps it in its cache, and the file, which is the same
//! stream between two magic words. A unit is a record batch.

use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, Endianness, Message, MessageHeader, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};

use super::super::columns::Columns;
use super::super::{Field as Value, Fields, ProblemKind};
use super::fault::{Fault, panicked};
use super::input::{Input, Part, most_unpacked};
use super::row::{Cells, Push, Rows, Unmade};
use super::schema::{Kind, Leaf, Role, Selection};
use crate::storage::Place;

/// First bytes of the form that is a file.
const MAGIC: &[u8] = b"ARROW1\0\0";
/// Bytes before a message that say that its length follows; older writers leave them out.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Largest description of a message.
const MAX_MESSAGE: u64 = 256 << 20;

/// One file.
#[derive(Debug)]
pub(super) struct File {
    input: Input,
    pub rows: Rows,
    /// What tells its content from that of another day.
    pub version: String,
    decoder: FileDecoder,
    /// The way to the values that are read, by [`Role`]: a column of those that are decoded, and parts of structures in it.
    ways: [Option<Vec<usize>>; Role::ALL.len()],
    /// The same of the columns that go along, with their names.
    carried: Vec<(Arc<str>, Vec<usize>)>,
}

/// One record batch of a file.
#[derive(Debug)]
pub(super) struct Batch {
    pub file: Arc<File>,
    /// Its place in the file.
    pub number: usize,
    /// The row of the file with which it begins.
    pub first_row: u64,
    pub len: u64,
    start: u64,
    message: u64,
    body: u64,
}

/// What a file has.
#[derive(Debug)]
pub(super) struct Batches {
    pub batches: Vec<Batch>,
    /// Why there may be more than can be read.
    pub cut: Option<String>,
}

/// The record batches of a file. Of one that is cut off, those that are whole.
///
/// # Errors
/// When the file cannot be read, is no such file, or has no column to read.
pub(super) fn open(input: Input, columns: &Columns) -> Result<Batches, Fault> {
    let length = input.len()?;
    let part = Part::new(&input, length);
    let start = part.bytes(0, length.min(MAGIC.len() as u64))?;
    let mut at = match start.starts_with(MAGIC) {
        true => MAGIC.len() as u64,
        false => 0,
    };
    let Some(first) = next(&part, at)? else {
        return Err(Fault::Broken("no schema in it".into()));
    };
    let (schema, version) = parsed(&first.message, |message| {
        let schema = message
            .header_as_schema()
            .ok_or("its first message is no schema")?;
        if schema.endianness() != Endianness::Little {
            return Err("numbers with their high byte first, which are not read".into());
        }
        let schema = try_fb_to_schema(schema).map_err(|error| error.to_string())?;
        Ok((schema, message.version()))
    })?;
    // Of a file far away, its length is what is known of it.
    let today = input.0.version().unwrap_or_else(|| length.to_string());
    let file = Arc::new(File::new(input, today, &schema, version, columns)?);
    at += first.size();
    let mut found = Batches {
        batches: Vec::new(),
        cut: None,
    };
    let mut first_row = 0;
    while let Some(next) = next(&part, at).transpose() {
        let counted = next.and_then(|next| Ok((next.rows()?, next)));
        let (rows, next) = match counted {
            Ok(counted) => counted,
            Err(fault) => {
                found.cut = Some(format!("after {} batches: {fault}", found.batches.len()));
                break;
            }
        };
        if let Some(len) = rows.filter(|len| *len > 0) {
            found.batches.push(Batch {
                file: Arc::clone(&file),
                number: found.batches.len(),
                first_row,
                len,
                start: at,
                message: next.before + next.message.len() as u64,
                body: next.body,
            });
            first_row += len;
        }
        at += next.size();
    }
    Ok(found)
}

/// A message of a stream.
struct Next {
    /// Bytes of its length and what stands before that.
    before: u64,
    message: bytes::Bytes,
    /// Bytes of its data, behind the message.
    body: u64,
}

/// The message at some byte; `None` at the end of the stream.
fn next(part: &Part, at: u64) -> Result<Option<Next>, Fault> {
    let left = part.end() - at;
    if left == 0 {
        return Ok(None);
    }
    let word = |at| -> Result<[u8; 4], Fault> {
        let bytes = part.bytes(at, 4)?;
        Ok([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let (before, length) = match word(at)? {
        CONTINUATION => (8, word(at + 4)?),
        length => (4, length),
    };
    let length = u64::from(u32::from_le_bytes(length));
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_MESSAGE || before + length > left {
        let what = match at {
            0 => "not an Arrow file",
            _ => "cut off, or something else than Arrow from here on",
        };
        return Err(Fault::Broken(what.into()));
    }
    let message = part.bytes(at + before, length)?.slice(..length as usize);
    let body = parsed(&message, |message| Ok(message.bodyLength()))?;
    let body = u64::try_from(body).ok();
    match body.filter(|body| *body <= left - before - length) {
        Some(body) => Ok(Some(Next {
            before,
            message,
            body,
        })),
        None => Err(Fault::Broken("cut off within a batch".into())),
    }
}

impl Next {
    fn size(&self) -> u64 {
        self.before + self.message.len() as u64 + self.body
    }

    /// The number of rows of a record batch.
    fn rows(&self) -> Result<Option<u64>, Fault> {
        parsed(&self.message, |message| {
            let Some(batch) = message.header_as_record_batch() else {
                return match message.header_type() {
                    MessageHeader::DictionaryBatch => Ok(None),
                    other => Err(format!("a message of kind {other:?} among the batches")),
                };
            };
            // As for parquet: no writer has the memory for more.
            let rows = u32::try_from(batch.length());
            rows.map(|rows| Some(u64::from(rows)))
                .map_err(|_| "a batch with an impossible number of rows".into())
        })
    }
}

/// Looks at a message.
fn parsed<T>(
    bytes: &[u8],
    look: impl FnOnce(Message<'_>) -> Result<T, String>,
) -> Result<T, Fault> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        let message = root_as_message(bytes).map_err(|error| {
            let reason = error.to_string();
            format!(
                "not an Arrow message: {}",
                reason.lines().next().unwrap_or_default()
            )
        })?;
        look(message)
    }));
    let looked = looked.unwrap_or_else(|payload| Err(panicked(payload.as_ref()).to_string()));
    looked.map_err(Fault::Broken)
}

impl File {
    fn new(
        input: Input,
        version: String,
        schema: &Schema,
        metadata: MetadataVersion,
        columns: &Columns,
    ) -> Result<Self, Fault> {
        let mut leaves = Vec::new();
        for (at, field) in schema.fields().iter().enumerate() {
            walk(field, Vec::new(), vec![at], false, &mut leaves);
        }
        let known: Vec<Leaf> = leaves.iter().map(|(leaf, _)| leaf.clone()).collect();
        let selection = Selection::new(&known, columns).map_err(|misfit| misfit.with(&known))?;
        let mut ways = selection
            .leaves
            .map(|leaf| leaf.map(|leaf| leaves[leaf].1.clone()));
        let others = selection.others(known.len()).filter(|leaf| {
            let Leaf { kind, is_list, .. } = &known[*leaf];
            columns.carried && !is_list && *kind != Kind::Binary
        });
        let mut carried: Vec<(Arc<str>, Vec<usize>)> = others
            .map(|leaf| (known[leaf].path.join(".").into(), leaves[leaf].1.clone()))
            .collect();
        let of_carried = carried.iter().map(|(_, way)| way);
        let mut decoded: Vec<usize> = ways
            .iter()
            .flatten()
            .chain(of_carried)
            .map(|way| way[0])
            .collect();
        decoded.sort_unstable();
        decoded.dedup();
        let of_carried = carried.iter_mut().map(|(_, way)| way);
        for way in ways.iter_mut().flatten().chain(of_carried) {
            way[0] = decoded
                .iter()
                .position(|at| *at == way[0])
                .unwrap_or_default();
        }
        let fields = schema.fields().iter().map(unchecked);
        let schema = Schema::new(fields.collect::<Vec<FieldRef>>());
        Ok(Self {
            rows: Rows::new(&input.0, selection),
            version,
            input,
            decoder: FileDecoder::new(Arc::new(schema), metadata).with_projection(decoded),
            ways,
            carried,
        })
    }
}

/// Text is decoded as bytes, which lie in the same way: what is not UTF-8 costs its row and not its batch.
fn unchecked(field: &FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::Utf8 => DataType::Binary,
        DataType::LargeUtf8 => DataType::LargeBinary,
        DataType::Utf8View => DataType::BinaryView,
        DataType::List(element) => DataType::List(unchecked(element)),
        DataType::LargeList(element) => DataType::LargeList(unchecked(element)),
        DataType::Struct(parts) => DataType::Struct(parts.iter().map(unchecked).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::new(field.name(), kind, field.is_nullable()))
}

/// Finds the leaves of a column, each with the way to it.
fn walk(
    field: &Field,
    mut path: Vec<String>,
    way: Vec<usize>,
    is_list: bool,
    leaves: &mut Vec<(Leaf, Vec<usize>)>,
) {
    path.push(field.name().clone());
    let mut kind = field.data_type();
    let mut depth = usize::from(is_list);
    while let DataType::List(element) | DataType::LargeList(element) = kind {
        kind = element.data_type();
        depth += 1;
    }
    let kind = match kind {
        DataType::Struct(parts) => {
            for (at, part) in parts.iter().enumerate() {
                let way = [&way[..], &[at]].concat();
                walk(part, path.clone(), way, depth > 0, leaves);
            }
            return;
        }
        _ if depth > 1 => Kind::Other("a list of lists".into()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Binary,
        DataType::Dictionary(..) => Kind::Other("numbers of a dictionary's entries".into()),
        other if depth == 0 => Kind::Other(other.to_string()),
        other => Kind::Other(format!("a list of {other}")),
    };
    let is_list = depth > 0;
    leaves.push((
        Leaf {
            path,
            kind,
            is_list,
        },
        way,
    ));
}

/// The bytes of a row; the first there are in a list.
fn value<'a>(array: &'a dyn Array, way: &[usize], row: usize) -> Option<&'a [u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::Struct(_) => {
            let (part, way) = way.split_first()?;
            value(array.as_struct().column(*part).as_ref(), way, row)
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let mut elements = offsets[row] as usize..offsets[row + 1] as usize;
            elements.find_map(|row| value(list.values().as_ref(), way, row))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            let mut elements = offsets[row] as usize..offsets[row + 1] as usize;
            elements.find_map(|row| value(list.values().as_ref(), way, row))
        }
        _ => None,
    }
}

/// A value that goes along: text, which is decoded as bytes, a number, or yes or no.
fn field(array: &dyn Array, way: &[usize], row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    if let DataType::Struct(_) = array.data_type() {
        let (part, way) = way.split_first()?;
        return field(array.as_struct().column(*part).as_ref(), way, row);
    }
    if let Some(bytes) = value(array, way, row) {
        return Some(Value::Text(String::from_utf8_lossy(bytes).into_owned()));
    }
    let whole = |number: i64| Some(Value::Int(number));
    match array.data_type() {
        DataType::Boolean => Some(Value::Bool(array.as_boolean().value(row))),
        DataType::Float32 => Some(Value::Float(
            array.as_primitive::<Float32Type>().value(row).into(),
        )),
        DataType::Float64 => Some(Value::Float(array.as_primitive::<Float64Type>().value(row))),
        DataType::Int8 => whole(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => whole(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => whole(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => whole(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => whole(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => whole(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => whole(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => {
            whole(i64::try_from(array.as_primitive::<UInt64Type>().value(row)).ok()?)
        }
        _ => None,
    }
}

impl Batch {
    /// As [`super::parquet::RowGroup::read`].
    pub fn read(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        push: &mut Push<'_>,
    ) -> ControlFlow<()> {
        let batch = catch_unwind(AssertUnwindSafe(|| self.decode()));
        let batch = batch.unwrap_or_else(|payload| Err(panicked(payload.as_ref())));
        for row in ranges.into_iter().flatten() {
            let (file, number, at) = (Arc::clone(&self.file), self.first_row + row, row as usize);
            let unmade = match &batch {
                Ok(batch) => {
                    let cells = file.cells(batch, at).into_iter().flatten();
                    let bytes = cells.map(<[u8]>::len).sum();
                    let batch = Arc::clone(batch);
                    Unmade::new(bytes, move || {
                        file.rows
                            .item(number, file.cells(&batch, at), file.fields(&batch, at))
                    })
                }
                Err(fault) => {
                    let reason = format!("batch {}: {fault}", self.number);
                    let kind = ProblemKind::UnreadableImage;
                    Unmade::new(0, move || file.rows.problem(number, kind, reason))
                }
            };
            push(row, unmade)?;
        }
        ControlFlow::Continue(())
    }

    fn decode(&self) -> Result<Arc<RecordBatch>, Fault> {
        let input = &self.file.input;
        let bytes = input.read_range(self.start, self.message + self.body)?;
        let before = if bytes.starts_with(&CONTINUATION) {
            8
        } else {
            4
        };
        let (message, body) = bytes.split_at(self.message as usize);
        check_unpacked(&message[before..], body)?;
        let block = Block::new(self.start as i64, self.message as i32, self.body as i64);
        let batch = self
            .file
            .decoder
            .read_record_batch(&block, &Buffer::from_vec(bytes))?;
        let batch = batch.filter(|batch| batch.num_rows() as u64 == self.len);
        batch
            .map(Arc::new)
            .ok_or_else(|| Fault::Broken("no rows where there were some".into()))
    }
}

/// Refuses a batch whose columns say that they become enormous, before memory is taken for them.
fn check_unpacked(message: &[u8], body: &[u8]) -> Result<(), Fault> {
    parsed(message, |message| {
        let batch = message
            .header_as_record_batch()
            .ok_or("no batch where there was one")?;
        if batch.compression().is_none() {
            return Ok(());
        }
        let size = |start: i64| -> Option<u64> {
            let bytes = body
                .get(usize::try_from(start).ok()?..)?
                .first_chunk::<8>()?;
            u64::try_from(i64::from_le_bytes(*bytes)).ok()
        };
        let buffers = batch.buffers().into_iter().flatten();
        let buffers = buffers.filter(|buffer| buffer.length() > 0);
        let sizes = buffers.filter_map(|buffer| size(buffer.offset()));
        let (packed, unpacked) = (body.len() as u64, sizes.fold(0, u64::saturating_add));
        match unpacked <= most_unpacked(packed) {
            true => Ok(()),
            false => Err(format!(
                "a batch of {packed} bytes that becomes {unpacked}, which is not believed"
            )),
        }
    })
}

impl File {
    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.input.0
    }

    fn fields(&self, batch: &RecordBatch, row: usize) -> Fields {
        let fields = self.carried.iter().map(|(name, way)| {
            let value = way
                .split_first()
                .and_then(|(column, way)| field(batch.column(*column).as_ref(), way, row));
            (Arc::clone(name), value)
        });
        fields.collect()
    }

    fn cells<'a>(&self, batch: &'a RecordBatch, row: usize) -> Cells<'a> {
        self.ways.each_ref().map(|way| {
            let (column, way) = way.as_ref()?.split_first()?;
            value(batch.column(*column).as_ref(), way, row)
        })
    }
}

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        Self::Broken(error.to_string())
    }
}
