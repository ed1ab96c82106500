//! rdma-core's user-space driver, as its shared libraries offer it: `libmlx5.so.1`, and `libibverbs.so.1` which it loads.
//!
//! Only what is used is declared, in the forms of the public headers `infiniband/verbs.h` and `infiniband/mlx5dv.h`: structures
//! of the library stay opaque but for the members that a caller is to read. The libraries are found at run time, so that
//! this builds where they are not.

#![allow(unsafe_code)] // Functions of a C library are looked up by name and called; each block says what they may assume.

use crate::memory::Memory;
use crate::{Error, Outcome};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// The driver's library.
const DRIVER: &CStr = c"libmlx5.so.1";
/// `RTLD_NOW`, of `dlfcn.h`.
const RTLD_NOW: c_int = 2;
/// `IBV_ACCESS_LOCAL_WRITE`.
const LOCAL_WRITE: c_int = 1;
/// `MLX5DV_UAR_ALLOC_TYPE_NC`: registers that are not cached.
const UAR_NOT_CACHED: u32 = 1;
/// `MLX5DV_OBJ_PD`.
const OBJECT_PD: u64 = 1 << 6;
/// More than any attribute structure of the library has.
const ATTRIBUTES: usize = 4096;

type Pointer = *mut c_void;

unsafe extern "C" {
    fn dlopen(file: *const c_char, mode: c_int) -> Pointer;
    fn dlsym(library: Pointer, name: *const c_char) -> Pointer;
    fn dlerror() -> *const c_char;
}

macro_rules! symbols {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)+) => {
        struct Symbols {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)+
        }

        impl Symbols {
            /// # Safety
            /// The library's functions of these names have these forms.
            unsafe fn find(library: Pointer) -> Outcome<Symbols> {
                let find = |name: &CStr| {
                    // SAFETY: the library stays loaded, and the name ends with a zero.
                    let symbol = unsafe { dlsym(library, name.as_ptr()) };
                    match symbol.is_null() {
                        true => Err(Error(format!("{} has no {}", DRIVER.to_string_lossy(), name.to_string_lossy()))),
                        false => Ok(symbol),
                    }
                };
                Ok(Symbols {
                    $($name: {
                        let name = CString::new(stringify!($name)).map_err(|error| Error(error.to_string()))?;
                        // SAFETY: a function's address, whose form the caller vouches for.
                        unsafe { std::mem::transmute::<Pointer, unsafe extern "C" fn($($argument),*) $(-> $result)?>(find(&name)?) }
                    },)+
                })
            }
        }
    };
}

symbols! {
    mlx5dv_get_vfio_device_list: fn(*mut VfioAttributes) -> *mut Pointer;
    mlx5dv_vfio_get_events_fd: fn(Pointer) -> c_int;
    mlx5dv_vfio_process_events: fn(Pointer) -> c_int;
    mlx5dv_query_device: fn(Pointer, Pointer) -> c_int;
    mlx5dv_init_obj: fn(*mut Objects, u64) -> c_int;
    mlx5dv_devx_general_cmd: fn(Pointer, *const u8, usize, *mut u8, usize) -> c_int;
    mlx5dv_devx_obj_create: fn(Pointer, *const u8, usize, *mut u8, usize) -> Pointer;
    mlx5dv_devx_obj_destroy: fn(Pointer) -> c_int;
    mlx5dv_devx_umem_reg: fn(Pointer, *mut u8, usize, u32) -> *mut u32;
    mlx5dv_devx_umem_dereg: fn(*mut u32) -> c_int;
    mlx5dv_devx_alloc_uar: fn(Pointer, u32) -> *mut UarMembers;
    mlx5dv_devx_free_uar: fn(*mut UarMembers);
    mlx5dv_devx_query_eqn: fn(Pointer, u32, *mut u32) -> c_int;
    mlx5dv_devx_alloc_msi_vector: fn(Pointer) -> *mut VectorMembers;
    mlx5dv_devx_free_msi_vector: fn(*mut VectorMembers) -> c_int;
    mlx5dv_devx_create_eq: fn(Pointer, *const u8, usize, *mut u8, usize) -> *mut *mut u8;
    mlx5dv_devx_destroy_eq: fn(*mut *mut u8) -> c_int;
    ibv_open_device: fn(Pointer) -> Pointer;
    ibv_close_device: fn(Pointer) -> c_int;
    ibv_free_device_list: fn(*mut Pointer);
    ibv_query_device: fn(Pointer, Pointer) -> c_int;
    ibv_query_port: fn(Pointer, u8, Pointer) -> c_int;
    ibv_alloc_pd: fn(Pointer) -> Pointer;
    ibv_dealloc_pd: fn(Pointer) -> c_int;
    ibv_reg_mr: fn(Pointer, *mut u8, usize, c_int) -> *mut MrMembers;
    ibv_dereg_mr: fn(*mut MrMembers) -> c_int;
}

/// `struct mlx5dv_vfio_context_attr`.
#[repr(C)]
struct VfioAttributes {
    pci_name: *const c_char,
    flags: u32,
    comp_mask: u64,
}

/// `struct mlx5dv_obj`: pairs of what is asked about and where the answer goes; the seventh is the protection domain's.
#[repr(C)]
struct Objects {
    pairs: [[Pointer; 2]; 8],
}

/// `struct mlx5dv_pd`.
#[repr(C)]
struct PdAnswer {
    pdn: u32,
    comp_mask: u64,
}

/// `struct mlx5dv_devx_uar`, as far as it is read.
#[repr(C)]
struct UarMembers {
    register: *mut u8,
    base: *mut u8,
    page_id: u32,
}

/// `struct mlx5dv_devx_msi_vector`.
#[repr(C)]
struct VectorMembers {
    vector: c_int,
    fd: c_int,
}

/// `struct ibv_mr`.
#[repr(C)]
struct MrMembers {
    context: Pointer,
    pd: Pointer,
    address: *mut u8,
    length: usize,
    handle: u32,
    lkey: u32,
    rkey: u32,
}

/// The result of a function that returns zero, or an error number, or -1 and sets `errno`.
fn done(what: &str, code: c_int) -> Outcome<()> {
    match code {
        0 => Ok(()),
        -1 => Err(Error(format!("{what}: {}", io::Error::last_os_error()))),
        code => Err(Error(format!("{what}: {}", io::Error::from_raw_os_error(code)))),
    }
}

/// The result of a function that returns a pointer, or none and sets `errno`.
fn some<T>(what: &str, pointer: *mut T) -> Outcome<*mut T> {
    match pointer.is_null() {
        true => Err(Error(format!("{what}: {}", io::Error::last_os_error()))),
        false => Ok(pointer),
    }
}

/// The library.
pub struct Library(Symbols);

impl Library {
    /// Loads it. It stays loaded: it is never unloaded, so that what it hands out is good for ever.
    pub fn load() -> Outcome<&'static Library> {
        // SAFETY: the name ends with a zero; what the library does when it is loaded is its own.
        let library = unsafe { dlopen(DRIVER.as_ptr(), RTLD_NOW) };
        if library.is_null() {
            // SAFETY: after a failure the text is there, and ends with a zero, until the next call.
            let why = unsafe { CStr::from_ptr(dlerror()) };
            return Err(Error(why.to_string_lossy().into_owned()));
        }
        // SAFETY: the forms are those of the library's public headers.
        let symbols = unsafe { Symbols::find(library)? };
        Ok(Box::leak(Box::new(Library(symbols))))
    }

    /// Opens the function at a PCI address, which vfio-pci has.
    pub fn open(&'static self, address: &str) -> Outcome<Context> {
        let name = CString::new(address).map_err(|error| Error(error.to_string()))?;
        let mut attributes = VfioAttributes { pci_name: name.as_ptr(), flags: 0, comp_mask: 0 };
        // SAFETY: the attributes live during the call. The list ends with a null and is freed after its device was opened.
        unsafe {
            let list = some("mlx5dv_get_vfio_device_list", (self.0.mlx5dv_get_vfio_device_list)(&mut attributes))?;
            let context = some("ibv_open_device", (self.0.ibv_open_device)(*list));
            (self.0.ibv_free_device_list)(list);
            Ok(Context { symbols: &self.0, raw: context? })
        }
    }
}

/// An open function.
pub struct Context {
    symbols: &'static Symbols,
    raw: Pointer,
}

impl Context {
    /// Closes it: everything made in it was destroyed.
    pub fn close(self) -> Outcome<()> {
        // SAFETY: the context is open, and nobody has it any more.
        done("ibv_close_device", unsafe { (self.symbols.ibv_close_device)(self.raw) })
    }

    /// Calls of the verbs that describe a device, by name, and how each ended.
    pub fn describe(&self) -> [(&'static str, Outcome<()>); 3] {
        let mut attributes = vec![0u64; ATTRIBUTES / 8];
        let at = attributes.as_mut_ptr().cast::<c_void>();
        // SAFETY: the context is open; the attributes have more room than the library knows to fill.
        unsafe {
            [
                ("ibv_query_device", done("", (self.symbols.ibv_query_device)(self.raw, at))),
                ("ibv_query_port", done("", (self.symbols.ibv_query_port)(self.raw, 1, at))),
                ("mlx5dv_query_device", done("", (self.symbols.mlx5dv_query_device)(self.raw, at))),
            ]
        }
    }

    /// What becomes readable when events wait for [`Context::process_events`].
    pub fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open, and its descriptor with it.
        unsafe { BorrowedFd::borrow_raw((self.symbols.mlx5dv_vfio_get_events_fd)(self.raw)) }
    }

    /// Serves events and looks at the function's health.
    pub fn process_events(&self) -> Outcome<()> {
        // SAFETY: the context is open.
        done("mlx5dv_vfio_process_events", unsafe { (self.symbols.mlx5dv_vfio_process_events)(self.raw) })
    }

    /// Executes a command; the output holds status and syndrome even if it failed.
    pub fn command(&self, input: &[u8], output: &mut [u8]) -> Outcome<()> {
        let (from, to) = ((input.as_ptr(), input.len()), (output.as_mut_ptr(), output.len()));
        // SAFETY: the context is open; input and output are as long as said.
        let code = unsafe { (self.symbols.mlx5dv_devx_general_cmd)(self.raw, from.0, from.1, to.0, to.1) };
        done("mlx5dv_devx_general_cmd", code)
    }

    /// Executes a command that creates an object.
    pub fn create(&self, input: &[u8], output: &mut [u8]) -> Outcome<Object> {
        let (from, to) = ((input.as_ptr(), input.len()), (output.as_mut_ptr(), output.len()));
        // SAFETY: the context is open; input and output are as long as said.
        let raw = unsafe { (self.symbols.mlx5dv_devx_obj_create)(self.raw, from.0, from.1, to.0, to.1) };
        Ok(Object { symbols: self.symbols, raw: some("mlx5dv_devx_obj_create", raw)? })
    }

    /// Registers memory for queues and doorbell records: `len` bytes at `offset`.
    pub fn umem(&self, memory: &Memory, offset: usize, len: usize) -> Outcome<Umem> {
        // SAFETY: the context is open; the memory is there until the umem was deregistered, which the caller sees to.
        let raw =
            unsafe { (self.symbols.mlx5dv_devx_umem_reg)(self.raw, memory.at(offset, len), len, LOCAL_WRITE as u32) };
        Ok(Umem { symbols: self.symbols, raw: some("mlx5dv_devx_umem_reg", raw)? })
    }

    /// A page of doorbell registers.
    pub fn uar(&self) -> Outcome<Uar> {
        // SAFETY: the context is open.
        let raw = unsafe { (self.symbols.mlx5dv_devx_alloc_uar)(self.raw, UAR_NOT_CACHED) };
        Ok(Uar { symbols: self.symbols, raw: some("mlx5dv_devx_alloc_uar", raw)? })
    }

    /// Number of the event queue of an interrupt vector.
    pub fn event_queue_of(&self, vector: u32) -> Outcome<u32> {
        let mut number = 0;
        // SAFETY: the context is open; the number lives during the call.
        let code = unsafe { (self.symbols.mlx5dv_devx_query_eqn)(self.raw, vector, &mut number) };
        done("mlx5dv_devx_query_eqn", code).map(|()| number)
    }

    /// An interrupt vector that nobody has.
    pub fn vector(&self) -> Outcome<Vector> {
        // SAFETY: the context is open.
        let raw = unsafe { (self.symbols.mlx5dv_devx_alloc_msi_vector)(self.raw) };
        Ok(Vector { symbols: self.symbols, raw: some("mlx5dv_devx_alloc_msi_vector", raw)? })
    }

    /// An event queue of `len` bytes by a CREATE_EQ whose pages the library fills in.
    pub fn event_queue(&self, input: &[u8], output: &mut [u8], len: usize) -> Outcome<EventQueue> {
        let (from, to) = ((input.as_ptr(), input.len()), (output.as_mut_ptr(), output.len()));
        // SAFETY: the context is open; input and output are as long as said.
        let raw = unsafe { (self.symbols.mlx5dv_devx_create_eq)(self.raw, from.0, from.1, to.0, to.1) };
        let raw = some("mlx5dv_devx_create_eq", raw)?;
        // SAFETY: the first member is the address of the queue's memory, which is as long as the input says.
        let memory = unsafe { Memory::borrowed(*raw, len) };
        Ok(EventQueue { symbols: self.symbols, raw, memory })
    }

    /// A protection domain.
    pub fn protection_domain(&self) -> Outcome<ProtectionDomain> {
        // SAFETY: the context is open.
        let raw = unsafe { (self.symbols.ibv_alloc_pd)(self.raw) };
        Ok(ProtectionDomain { symbols: self.symbols, raw: some("ibv_alloc_pd", raw)? })
    }
}

/// An object that a command created.
pub struct Object {
    symbols: &'static Symbols,
    raw: Pointer,
}

impl Object {
    /// Destroys it.
    pub fn destroy(self) -> Outcome<()> {
        // SAFETY: the object is there, its context is open, and nobody has it any more.
        done("mlx5dv_devx_obj_destroy", unsafe { (self.symbols.mlx5dv_devx_obj_destroy)(self.raw) })
    }
}

/// Memory that was registered for queues.
pub struct Umem {
    symbols: &'static Symbols,
    raw: *mut u32,
}

impl Umem {
    /// Its number.
    pub fn number(&self) -> u32 {
        // SAFETY: the number is the first member.
        unsafe { *self.raw }
    }

    /// Deregisters it.
    pub fn deregister(self) -> Outcome<()> {
        // SAFETY: it is registered, its context is open, and nobody has it any more.
        done("mlx5dv_devx_umem_dereg", unsafe { (self.symbols.mlx5dv_devx_umem_dereg)(self.raw) })
    }
}

/// A page of doorbell registers.
pub struct Uar {
    symbols: &'static Symbols,
    raw: *mut UarMembers,
}

impl Uar {
    /// Its number.
    pub fn number(&self) -> u32 {
        // SAFETY: the page is allocated.
        unsafe { (*self.raw).page_id }
    }

    /// Writes a register of 4 bytes, in the order that the device reads them.
    pub fn write32(&self, register: u64, value: u32) {
        // SAFETY: a register of the page, which is mapped: `register` is a constant of `hw_regs::uar`.
        unsafe { (*self.raw).base.add(register as usize).cast::<u32>().write_volatile(value.to_be()) }
    }

    /// Writes a register of 8 bytes, in the order that the device reads them.
    pub fn write64(&self, register: u64, value: u64) {
        // SAFETY: as above.
        unsafe { (*self.raw).base.add(register as usize).cast::<u64>().write_volatile(value.to_be()) }
    }

    /// Gives it back.
    pub fn free(self) {
        // SAFETY: it is allocated, its context is open, and nobody has it any more.
        unsafe { (self.symbols.mlx5dv_devx_free_uar)(self.raw) }
    }
}

/// An interrupt vector.
pub struct Vector {
    symbols: &'static Symbols,
    raw: *mut VectorMembers,
}

impl Vector {
    /// Its number.
    pub fn number(&self) -> u32 {
        // SAFETY: the vector is allocated.
        unsafe { (*self.raw).vector as u32 }
    }

    /// What becomes readable when it was raised.
    pub fn events(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the vector is allocated.
        unsafe { BorrowedFd::borrow_raw((*self.raw).fd as RawFd) }
    }

    /// Gives it back.
    pub fn free(self) -> Outcome<()> {
        // SAFETY: it is allocated, its context is open, and nobody has it any more.
        done("mlx5dv_devx_free_msi_vector", unsafe { (self.symbols.mlx5dv_devx_free_msi_vector)(self.raw) })
    }
}

/// An event queue of the caller's.
pub struct EventQueue {
    symbols: &'static Symbols,
    raw: *mut *mut u8,
    /// Its entries.
    pub memory: Memory,
}

impl EventQueue {
    /// Destroys it.
    pub fn destroy(self) -> Outcome<()> {
        // SAFETY: it is there, its context is open, and nobody has it any more.
        done("mlx5dv_devx_destroy_eq", unsafe { (self.symbols.mlx5dv_devx_destroy_eq)(self.raw) })
    }
}

/// A protection domain.
pub struct ProtectionDomain {
    symbols: &'static Symbols,
    raw: Pointer,
}

impl ProtectionDomain {
    /// Its number.
    pub fn number(&self) -> Outcome<u32> {
        let mut answer = PdAnswer { pdn: 0, comp_mask: 0 };
        let mut objects = Objects { pairs: [[std::ptr::null_mut(); 2]; 8] };
        objects.pairs[6] = [self.raw, (&raw mut answer).cast()];
        // SAFETY: the domain is allocated; both structures live during the call.
        done("mlx5dv_init_obj", unsafe { (self.symbols.mlx5dv_init_obj)(&mut objects, OBJECT_PD) })?;
        Ok(answer.pdn)
    }

    /// Registers `len` bytes at `offset` that the device may read and write.
    pub fn register(&self, memory: &Memory, offset: usize, len: usize) -> Outcome<Region> {
        // SAFETY: the domain is allocated; the memory is there until it was deregistered, which the caller sees to.
        let raw = unsafe { (self.symbols.ibv_reg_mr)(self.raw, memory.at(offset, len), len, LOCAL_WRITE) };
        Ok(Region { symbols: self.symbols, raw: some("ibv_reg_mr", raw)? })
    }

    /// Deallocates it; gives it back if that failed.
    pub fn deallocate(self) -> Result<(), (ProtectionDomain, Error)> {
        // SAFETY: it is allocated, its context is open, and nobody has it any more unless this fails.
        done("ibv_dealloc_pd", unsafe { (self.symbols.ibv_dealloc_pd)(self.raw) }).map_err(|error| (self, error))
    }
}

/// Registered memory.
pub struct Region {
    symbols: &'static Symbols,
    raw: *mut MrMembers,
}

impl Region {
    /// Its key.
    pub fn key(&self) -> u32 {
        // SAFETY: the memory is registered.
        unsafe { (*self.raw).lkey }
    }

    /// Its address and length.
    pub fn range(&self) -> (u64, u64) {
        // SAFETY: as above.
        unsafe { ((*self.raw).address as u64, (*self.raw).length as u64) }
    }

    /// Deregisters it.
    pub fn deregister(self) -> Outcome<()> {
        // SAFETY: it is registered, its context is open, and nobody has it any more.
        done("ibv_dereg_mr", unsafe { (self.symbols.ibv_dereg_mr)(self.raw) })
    }
}
