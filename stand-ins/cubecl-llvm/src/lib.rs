//! The names that cubecl-cuda takes from cubecl-llvm, without LLVM. See `Cargo.toml` for why.

use std::ffi::c_char;

use cubecl_core::environment::backtrace::BackTrace;
use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::{BufferIOAttr, KernelDefinition};
use cubecl_core::{CompilationError, Compiler};

pub mod nvptx {
    //! NVIDIA's assembly.

    pub mod ptx_version {
        //! Which version of it to write.

        use std::fmt;

        /// A version of PTX; the stand-in writes none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PtxVersion {}

        impl PtxVersion {
            /// None: only the LLVM code generator asks for a version.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl fmt::Display for PtxVersion {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {}
            }
        }
    }
}

pub mod shared {
    //! What is common to LLVM's targets.

    pub mod lowered_features {
        //! What a device may offer.

        use cubecl_core::ir::DeviceProperties;

        /// A kind of GPU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA.
            Nvptx,
        }

        /// Leaves the properties as they are: called only when LLVM generates the code.
        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// What LLVM would compile for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// NVIDIA GPUs.
    #[default]
    Nvptx,
}

/// The code generator that is not here.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

/// What it would be told.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// An AMD architecture; never one.
    pub arch: Option<std::convert::Infallible>,
    /// The device's architecture.
    pub sm_arch: Option<SmArch>,
    /// The version of PTX to write.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Scalars in the kernel's parameter block.
    pub grid_constants: bool,
}

/// What it would return.
pub enum PlironArtifact {
    /// NVIDIA assembly.
    NvptxCode(NvptxModule),
    /// Anything else, as the published enum has it.
    Other,
}

impl std::fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no LLVM in this build")
    }
}

/// A compiled module, as cubecl-cuda would load it.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// Assembly, ended by NUL.
    pub ptx: Vec<c_char>,
    /// Name of the kernel.
    pub entrypoint: String,
    /// The code before assembly.
    pub ir: String,
    /// Bytes of shared memory of a launch.
    pub shared_memory_size: usize,
    /// What the kernel does with its buffers.
    pub io: Vec<BufferIOAttr>,
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(&mut self, _: KernelDefinition, _: &PlironOptions) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this msrnn was built with a stand-in for cubecl-llvm, which compiles nothing: CUDA kernels go \
                     through CUDA C++ (feature `cpp` of cubecl-cuda); see stand-ins/cubecl-llvm/Cargo.toml"
                .into(),
            backtrace: BackTrace::capture(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "none"
    }
}
