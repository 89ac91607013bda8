//! What the fuzz targets share.

pub mod read;
pub mod zip;

use std::alloc::{GlobalAlloc, Layout, System};

use openclip_model::weights::StateDict;

/// Bytes of one allocation, at most. Inputs are of 64 KiB at most, of which deflate makes 64 MiB and a conversion to f32 four
/// times as much.
const LARGEST_ALLOCATION: usize = 320 << 20;

/// Elements of a tensor that is read.
const LARGEST_TENSOR: usize = 1 << 20;

/// The system's memory, but for requests that no input of a fuzzer's size justifies: these end the program.
struct Bounded;

#[global_allocator]
static MEMORY: Bounded = Bounded;

fn is_justified(size: usize) -> bool {
    size <= LARGEST_ALLOCATION
}

// SAFETY: the system's allocator, or a null pointer, which means that there is no memory.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_justified(layout.size()) {
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_justified(layout.size()) {
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_justified(size) {
            true => unsafe { System.realloc(pointer, layout, size) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Opens a weights file and reads its tensors.
pub fn read_weights(bytes: &[u8]) {
    read::files::with_file(bytes, |path| {
        let Ok(dict) = StateDict::open(path) else {
            return;
        };
        for tensor in dict.tensors.values() {
            if tensor.numel() <= LARGEST_TENSOR {
                // An error is an answer too.
                let _ = tensor.to_f32();
                let _ = tensor.to_bytes();
            }
        }
    });
}

/// Panics that the code under test catches are no findings; one that gets through still is.
pub fn allow_caught_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
