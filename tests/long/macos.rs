//! What is built for macOS has what its dynamic linker, dyld, asks of a library that interposes.
//!
//! There is no macOS here to run it on: `make check-macos` cross-compiles both kinds, and this file reads them as
//! dyld-1378 does (apple-oss-distributions/dyld: appendInterposingTuples in DyldRuntimeState.cpp, forEachBind in
//! MachOAnalyzer.cpp).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hmac_sha256::Hash;
use object::LittleEndian;
use object::macho::{self, DyldInfoCommand, MachHeader64};
use object::read::macho::{LoadCommandVariant, MachHeader, Nlist, Section, Segment};

const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-apple-darwin"];

/// What dyld interposes, with what of ours, and where it looks it up to do so. The MPI functions may be missing, and
/// may be in any library.
const TUPLES: [(&str, &str, Ordinal, bool); 8] = [
    ("_execvp", "execvp_hook", Ordinal::Library(1), false),
    ("_execv", "execv_hook", Ordinal::Library(1), false),
    mpi("_MPI_Comm_spawn"),
    mpi("_MPI_Comm_spawn_multiple"),
    mpi("_MPI_Init"),
    mpi("_MPI_Init_thread"),
    mpi("_PMPI_Init"),
    mpi("_PMPI_Init_thread"),
];
/// Library 1, as it must be the only one.
const LIBSYSTEM: &str = "/usr/lib/libSystem.B.dylib";
/// The first macOS of Apple's own processors. scripts/package/cross says it to the linker.
const MINIMUM: (u32, u32) = (11, 0);

#[test]
#[ignore = "`make check-macos` builds what this looks at"]
fn the_library_is_what_dyld_asks_of_one_that_interposes() {
    for target in TARGETS {
        assert_eq!(
            library(&read(target, "libspawnfix.dylib")),
            NOTHING,
            "{target}"
        );
    }
}

#[test]
#[ignore = "`make check-macos` builds what this looks at"]
fn the_program_needs_nothing_but_the_system() {
    for target in TARGETS {
        assert_eq!(program(&read(target, "spawnfix")), NOTHING, "{target}");
    }
}

/// Breaks one thing at a time in what was built.
#[test]
#[ignore = "`make check-macos` builds what this looks at"]
fn what_is_wrong_is_found() {
    for target in TARGETS {
        let good = read(target, "libspawnfix.dylib");
        let image = Image::parse(&good);
        let tuples = image.section("__interpose").offset;
        let flags = macho::BIND_OPCODE_SET_SYMBOL_TRAILING_FLAGS_IMM;
        let weak = flags | macho::BIND_SYMBOL_FLAGS_WEAK_IMPORT;
        let bind = |flags: u8, name: &str| [&[flags], name.as_bytes(), &[0]].concat();
        // As zig's linker writes where to look a symbol up: its name, its type, the library.
        let from = |name: &str, library: u8| {
            let kind = macho::BIND_OPCODE_SET_TYPE_IMM | macho::BIND_TYPE_POINTER;
            [name.as_bytes(), &[0, kind, library]].concat()
        };
        let any = macho::BIND_OPCODE_SET_DYLIB_SPECIAL_IMM | 0xe;
        let first = macho::BIND_OPCODE_SET_DYLIB_ORDINAL_IMM | 1;

        let found = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(bad != good, "{target}: nothing was changed for: {what}");
            let found = library(&bad);
            assert!(
                found.iter().any(|line| line.contains(what)),
                "{target}: {what}: {found:?}"
            );
        };
        found("_MPI_Comm_spawn is a strong import", &|bad| {
            replace(
                bad,
                &bind(weak, "_MPI_Comm_spawn"),
                &bind(flags, "_MPI_Comm_spawn"),
            );
        });
        found("_execvp is a weak import", &|bad| {
            replace(bad, &bind(flags, "_execvp"), &bind(weak, "_execvp"));
        });
        found("no tuple for _execv,", &|bad| {
            replace(bad, &bind(flags, "_execv"), &bind(flags, "_execw"));
        });
        found("_execvp is looked up from AnyLibrary", &|bad| {
            replace(bad, &from("_execvp", first), &from("_execvp", any));
        });
        // Lazily, as a function that is only called: without a type.
        found("_malloc is looked up from AnyLibrary", &|bad| {
            let from = |library| [b"_malloc\0", &[library][..]].concat();
            replace(bad, &from(first), &from(any));
        });
        found("_MPI_Comm_spawn is looked up from Library(1)", &|bad| {
            replace(
                bad,
                &from("_MPI_Comm_spawn", any),
                &from("_MPI_Comm_spawn", first),
            );
        });
        found("is no function of this library", &|bad| {
            bad[tuples..tuples + 8].fill(0)
        });
        found("in place of _execv is", &|bad| {
            // The hooks of two tuples, exchanged.
            let (first, second) = bad[tuples..tuples + 24].split_at_mut(16);
            first[..8].swap_with_slice(second);
        });
        found("needs /usr/lib/libsystem.b.dylib", &|bad| {
            replace(
                bad,
                LIBSYSTEM.as_bytes(),
                LIBSYSTEM.to_lowercase().as_bytes(),
            );
        });
        found("_rust_eh_personalitx is exported", &|bad| {
            replace(bad, b"rust_eh_personality\0", b"rust_eh_personalitx\0");
        });
        found("minimum is macOS 12.0", &|bad| {
            bad[image.minimum_at + 2] = 12
        });
        if image.cputype == macho::CPU_TYPE_ARM64 {
            found("is not signed", &|bad| {
                let command = |command: u32| [command.to_le_bytes(), 16u32.to_le_bytes()].concat();
                replace(
                    bad,
                    &command(macho::LC_CODE_SIGNATURE),
                    &command(macho::LC_DATA_IN_CODE),
                );
            });
            found("page 1 of the code", &|bad| bad[image.page_size + 1] ^= 1);
        }
    }
}

/// The hook of an MPI function has its name, but for C's underscore.
const fn mpi(name: &str) -> (&str, &str, Ordinal, bool) {
    (name, name, Ordinal::AnyLibrary, true)
}

const NOTHING: [String; 0] = [];

fn read(target: &str, name: &str) -> Vec<u8> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = tmp.with_file_name(target).join("release").join(name);
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: `make check-macos` builds it", file.display()))
}

/// Everywhere; all else stays where it is.
fn replace(data: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    for at in 0..data.len() - old.len() {
        if data[at..].starts_with(old) {
            data[at..at + new.len()].copy_from_slice(new);
        }
    }
}

/// What is wrong with the library.
fn library(data: &[u8]) -> Vec<String> {
    let image = Image::parse(data);
    let mut wrong = image.wrong();
    let interpose = image.section("__interpose");
    let text = image.section("__text");
    if !interpose.segment.starts_with("__DATA") || interpose.size != TUPLES.len() as u64 * 16 {
        wrong.push(format!("{interpose:?} is not {} tuples", TUPLES.len()));
    }
    let mut names = BTreeSet::new();
    for address in (interpose.address..interpose.address + interpose.size).step_by(16) {
        let bind = image.binds.iter().find(|bind| bind.address == address + 8);
        let name = bind.map_or("nothing", |bind| &bind.name);
        names.insert(name);
        let ours = TUPLES
            .iter()
            .find(|tuple| tuple.0 == name)
            .map_or("?", |tuple| tuple.1.trim_start_matches('_'));
        let ours = format!("{}{ours}", ours.len()); // so it is in a mangled name
        match image.rebases.get(&address) {
            Some(hook) if (text.address..text.address + text.size).contains(hook) => {
                let symbol = image
                    .symbols
                    .get(hook)
                    .map_or("a nameless place", String::as_str);
                if !symbol.contains(&ours) {
                    wrong.push(format!("in place of {name} is {symbol}"));
                }
            }
            other => wrong.push(format!(
                "in place of {name}, {other:x?} is no function of this library"
            )),
        }
    }
    for (name, _, ordinal, weak) in TUPLES {
        if !names.contains(name) {
            wrong.push(format!("no tuple for {name}, but {names:?}"));
        }
        // Wherever it is used.
        for bind in image.binds.iter().filter(|bind| bind.name == name) {
            if bind.weak != weak {
                let kind = if bind.weak { "weak" } else { "strong" };
                wrong.push(format!("{name} is a {kind} import"));
            }
            if bind.ordinal != ordinal {
                wrong.push(format!("{name} is looked up from {:?}", bind.ordinal));
            }
        }
    }
    // A tuple is all that dyld needs.
    for name in image.exports.iter().filter(|name| !harmless(name)) {
        wrong.push(format!("{name} is exported"));
    }
    if image.filetype != macho::MH_DYLIB {
        wrong.push(format!("a file of type {}", image.filetype));
    }
    if image.install_name.as_deref() != Some("@rpath/libspawnfix.dylib") {
        wrong.push(format!("its own name is {:?}", image.install_name));
    }
    wrong
}

/// Whether an exported name can stand in no other's way. rustc has a list for the linker, of nothing, but zig's (0.17)
/// takes it and exports all the same what std keeps visible: a personality routine, of which each Rust library has its
/// own, and names with a hash in them.
fn harmless(name: &str) -> bool {
    let hash = |hash: &str| hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // Rust's two ways to mangle.
    let legacy = name.starts_with("__ZN3std")
        && name.ends_with('E')
        && name.rsplit_once("17h").is_some_and(|(_, end)| hash(end));
    let v0 = name
        .strip_prefix("__RNvNtCs")
        .and_then(|name| name.split_once("_3std"));
    let hashed = legacy || v0.is_some_and(|(crate_hash, _)| hash(crate_hash));
    // The linker's own, in each file.
    hashed || ["_rust_eh_personality", "__mh_dylib_header", "___dso_handle"].contains(&name)
}

/// What is wrong with the program.
fn program(data: &[u8]) -> Vec<String> {
    let image = Image::parse(data);
    let mut wrong = image.wrong();
    if image.filetype != macho::MH_EXECUTE || !image.has_main {
        wrong.push(format!(
            "a file of type {}, main: {}",
            image.filetype, image.has_main
        ));
    }
    wrong
}

/// Where dyld looks for a symbol.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ordinal {
    /// The library at this place in the list, from 1.
    Library(u64),
    /// Whichever loaded library has it.
    AnyLibrary,
    Other(u8),
}

/// A pointer that dyld fills in with a symbol's address.
#[derive(Clone, Debug)]
struct Bind {
    address: u64,
    name: String,
    ordinal: Ordinal,
    /// It may be missing.
    weak: bool,
}

#[derive(Clone, Debug, Default)]
struct Range {
    segment: String,
    name: String,
    address: u64,
    size: u64,
    offset: usize,
}

/// What dyld reads of a file.
#[derive(Default)]
struct Image {
    cputype: u32,
    filetype: u32,
    flags: u32,
    libraries: Vec<String>,
    install_name: Option<String>,
    has_main: bool,
    platform: u32,
    minimum: (u32, u32),
    /// Where in the file the lowest byte of that is.
    minimum_at: usize,
    segments: Vec<Range>,
    sections: Vec<Range>,
    binds: Vec<Bind>,
    /// Pointers into this file: where, and what to.
    rebases: BTreeMap<u64, u64>,
    exports: Vec<String>,
    /// The names of what is here. dyld needs none.
    symbols: BTreeMap<u64, String>,
    page_size: usize,
    bad_pages: Vec<usize>,
}

impl Image {
    fn parse(data: &[u8]) -> Image {
        let header = MachHeader64::<LittleEndian>::parse(data, 0).expect("a Mach-O file");
        let endian = LittleEndian;
        let mut image = Image {
            cputype: header.cputype(endian),
            filetype: header.filetype(endian),
            flags: header.flags(endian),
            ..Image::default()
        };
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fixups: Option<&DyldInfoCommand<_>> = None;
        let mut signature = None;
        let mut at = size_of::<MachHeader64<LittleEndian>>();
        let mut commands = header
            .load_commands(endian, data, 0)
            .expect("load commands");
        while let Some(command) = commands.next().expect("a load command") {
            let start = at;
            at += command.cmdsize() as usize;
            match command.variant().expect("a load command of a known form") {
                LoadCommandVariant::Segment64(segment, sections) => {
                    image.segments.push(Range {
                        segment: string(segment.name()),
                        address: segment.vmaddr.get(endian),
                        size: segment.vmsize.get(endian),
                        offset: segment.fileoff.get(endian) as usize,
                        ..Range::default()
                    });
                    if segment.nsects(endian) == 0 {
                        continue; // object (0.37) takes no sections for an error
                    }
                    for section in segment.sections(endian, sections).expect("sections") {
                        image.sections.push(Range {
                            segment: string(section.segment_name()),
                            name: string(section.name()),
                            address: section.addr.get(endian),
                            size: section.size.get(endian),
                            offset: section.offset.get(endian) as usize,
                        });
                    }
                }
                LoadCommandVariant::Dylib(library) => {
                    let name = command
                        .string(endian, library.dylib.name)
                        .expect("a library's name");
                    image.libraries.push(string(name));
                }
                LoadCommandVariant::IdDylib(library) => {
                    let name = command
                        .string(endian, library.dylib.name)
                        .expect("the library's name");
                    image.install_name = Some(string(name));
                }
                LoadCommandVariant::BuildVersion(build) => {
                    let minimum = build.minos.get(endian); // xxxx.yy.zz
                    image.platform = build.platform.get(endian);
                    image.minimum = (minimum >> 16, minimum >> 8 & 0xff);
                    image.minimum_at = start + 12;
                }
                LoadCommandVariant::Symtab(table) => {
                    let table = table.symbols::<MachHeader64<_>, _>(endian, data);
                    let table = table.expect("a symbol table");
                    for symbol in table.iter().filter(|symbol| !symbol.is_undefined()) {
                        let name = symbol.name(endian, table.strings()).expect("a name");
                        image.symbols.insert(symbol.n_value(endian), string(name));
                    }
                }
                LoadCommandVariant::EntryPoint(_) => image.has_main = true,
                LoadCommandVariant::DyldInfo(info) => fixups = Some(info),
                LoadCommandVariant::LinkeditData(part) => {
                    let range = part.dataoff.get(endian) as usize..;
                    let range = &data[range][..part.datasize.get(endian) as usize];
                    match command.cmd() {
                        macho::LC_CODE_SIGNATURE => signature = Some(range),
                        // Another encoding of the same; zig's linker writes the older one.
                        macho::LC_DYLD_CHAINED_FIXUPS | macho::LC_DYLD_EXPORTS_TRIE => {
                            panic!("chained fixups: this test has still to learn them")
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let info = fixups.expect("LC_DYLD_INFO");
        let part = |offset: object::U32<_>, size: object::U32<_>| {
            &data[offset.get(endian) as usize..][..size.get(endian) as usize]
        };
        for binds in [
            part(info.bind_off, info.bind_size),
            part(info.lazy_bind_off, info.lazy_bind_size),
            part(info.weak_bind_off, info.weak_bind_size),
        ] {
            image.read_binds(binds);
        }
        image.read_rebases(part(info.rebase_off, info.rebase_size), data);
        let trie = part(info.export_off, info.export_size);
        if !trie.is_empty() {
            read_exports(trie, 0, &mut Vec::new(), &mut image.exports);
        }
        if let Some(signature) = signature {
            image.check_pages(signature, data);
        }
        image
    }

    /// What is wrong in the library as in the program.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for library in &self.libraries {
            if library != LIBSYSTEM {
                wrong.push(format!("needs {library}"));
            }
        }
        for bind in &self.binds {
            let any = TUPLES
                .iter()
                .any(|tuple| tuple.0 == bind.name && tuple.2 == Ordinal::AnyLibrary);
            if bind.ordinal != Ordinal::Library(1) && !any {
                wrong.push(format!(
                    "{} is looked up from {:?}",
                    bind.name, bind.ordinal
                ));
            }
        }
        if self.platform != macho::PLATFORM_MACOS || self.minimum != MINIMUM {
            let (major, minor) = self.minimum;
            wrong.push(format!(
                "the minimum is macOS {major}.{minor} (platform {})",
                self.platform
            ));
        }
        if self.flags & macho::MH_TWOLEVEL == 0 {
            wrong.push("a flat namespace".to_owned());
        }
        for page in &self.bad_pages {
            wrong.push(format!("page {page} of the code is not what was signed"));
        }
        if self.page_size == 0 && self.cputype == macho::CPU_TYPE_ARM64 {
            wrong.push("it is not signed".to_owned());
        }
        wrong
    }

    fn section(&self, name: &str) -> Range {
        let section = self.sections.iter().find(|section| section.name == name);
        section.cloned().unwrap_or_default()
    }

    /// BIND_OPCODE_* of Apple's mach-o/loader.h. A lazy bind ends with DONE, and the next one follows.
    fn read_binds(&mut self, data: &[u8]) {
        let mut bytes = Bytes(data);
        let start = Bind {
            address: 0,
            name: String::new(),
            ordinal: Ordinal::Other(0),
            weak: false,
        };
        let mut bind = start.clone();
        while let Some(byte) = bytes.next() {
            let immediate = byte & macho::BIND_IMMEDIATE_MASK;
            let mut advance = 0;
            match byte & macho::BIND_OPCODE_MASK {
                macho::BIND_OPCODE_DONE => bind = start.clone(),
                macho::BIND_OPCODE_SET_DYLIB_ORDINAL_IMM => {
                    bind.ordinal = Ordinal::Library(immediate.into())
                }
                macho::BIND_OPCODE_SET_DYLIB_ORDINAL_ULEB => {
                    bind.ordinal = Ordinal::Library(bytes.uleb())
                }
                macho::BIND_OPCODE_SET_DYLIB_SPECIAL_IMM => {
                    let any =
                        macho::BIND_SPECIAL_DYLIB_FLAT_LOOKUP as u8 & macho::BIND_IMMEDIATE_MASK;
                    bind.ordinal = if immediate == any {
                        Ordinal::AnyLibrary
                    } else {
                        Ordinal::Other(immediate)
                    };
                }
                macho::BIND_OPCODE_SET_SYMBOL_TRAILING_FLAGS_IMM => {
                    bind.weak = immediate & macho::BIND_SYMBOL_FLAGS_WEAK_IMPORT != 0;
                    bind.name = bytes.string();
                }
                macho::BIND_OPCODE_SET_TYPE_IMM => assert_eq!(immediate, macho::BIND_TYPE_POINTER),
                macho::BIND_OPCODE_SET_ADDEND_SLEB => assert_eq!(bytes.uleb(), 0, "{}", bind.name),
                macho::BIND_OPCODE_SET_SEGMENT_AND_OFFSET_ULEB => {
                    bind.address = self.segments[usize::from(immediate)].address + bytes.uleb();
                }
                macho::BIND_OPCODE_ADD_ADDR_ULEB => {
                    bind.address = bind.address.wrapping_add(bytes.uleb())
                }
                macho::BIND_OPCODE_DO_BIND => advance = 8,
                macho::BIND_OPCODE_DO_BIND_ADD_ADDR_ULEB => {
                    advance = 8u64.wrapping_add(bytes.uleb())
                }
                macho::BIND_OPCODE_DO_BIND_ADD_ADDR_IMM_SCALED => {
                    advance = 8 + 8 * u64::from(immediate)
                }
                macho::BIND_OPCODE_DO_BIND_ULEB_TIMES_SKIPPING_ULEB => {
                    let (times, skip) = (bytes.uleb(), bytes.uleb());
                    for _ in 0..times {
                        self.binds.push(bind.clone());
                        bind.address += 8 + skip;
                    }
                }
                _ => panic!("{byte:#x} is no bind opcode that is known here"),
            }
            if advance != 0 {
                self.binds.push(bind.clone());
                bind.address = bind.address.wrapping_add(advance);
            }
        }
    }

    /// REBASE_OPCODE_* of Apple's mach-o/loader.h.
    fn read_rebases(&mut self, opcodes: &[u8], data: &[u8]) {
        let mut bytes = Bytes(opcodes);
        let mut address = 0u64;
        while let Some(byte) = bytes.next() {
            let immediate = u64::from(byte & macho::REBASE_IMMEDIATE_MASK);
            let (mut times, mut skip) = (0, 0);
            match byte & macho::REBASE_OPCODE_MASK {
                macho::REBASE_OPCODE_DONE => break,
                macho::REBASE_OPCODE_SET_TYPE_IMM => {
                    assert_eq!(immediate, macho::REBASE_TYPE_POINTER.into())
                }
                macho::REBASE_OPCODE_SET_SEGMENT_AND_OFFSET_ULEB => {
                    address = self.segments[immediate as usize].address + bytes.uleb();
                }
                macho::REBASE_OPCODE_ADD_ADDR_ULEB => address = address.wrapping_add(bytes.uleb()),
                macho::REBASE_OPCODE_ADD_ADDR_IMM_SCALED => address += 8 * immediate,
                macho::REBASE_OPCODE_DO_REBASE_IMM_TIMES => times = immediate,
                macho::REBASE_OPCODE_DO_REBASE_ULEB_TIMES => times = bytes.uleb(),
                macho::REBASE_OPCODE_DO_REBASE_ADD_ADDR_ULEB => (times, skip) = (1, bytes.uleb()),
                macho::REBASE_OPCODE_DO_REBASE_ULEB_TIMES_SKIPPING_ULEB => {
                    (times, skip) = (bytes.uleb(), bytes.uleb());
                }
                _ => panic!("{byte:#x} is no rebase opcode"),
            }
            for _ in 0..times {
                let inside = |segment: &&Range| {
                    (segment.address..segment.address + segment.size).contains(&address)
                };
                let segment = self.segments.iter().find(inside).expect("a segment");
                let at = segment.offset + (address - segment.address) as usize;
                let pointer = data[at..at + 8].try_into().expect("eight bytes");
                self.rebases.insert(address, u64::from_le_bytes(pointer));
                address = address.wrapping_add(8).wrapping_add(skip);
            }
        }
    }

    /// Holds each page against its hash in the code directory (cs_blobs.h of Apple's xnu; all in network order). The
    /// kernel kills a process that uses a page that isn't what was signed; on Apple's own processors all code is
    /// signed.
    fn check_pages(&mut self, signature: &[u8], data: &[u8]) {
        let word =
            |at: usize| u32::from_be_bytes(signature[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(0), 0xfade_0cc0, "an embedded signature");
        let directory = (0..word(8) as usize)
            .map(|index| word(16 + 8 * index) as usize)
            .find(|&at| word(at) == 0xfade_0c02);
        let directory = directory.expect("a code directory");
        let hashes = directory + word(directory + 16) as usize;
        let (pages, limit) = (word(directory + 28) as usize, word(directory + 32) as usize);
        assert_eq!(
            signature[directory + 36..directory + 38],
            [32, 2],
            "SHA-256"
        );
        self.page_size = 1 << signature[directory + 39];
        assert_eq!(
            pages,
            limit.div_ceil(self.page_size),
            "all of the code is signed"
        );
        for (page, code) in data[..limit].chunks(self.page_size).enumerate() {
            if Hash::hash(code)[..] != signature[hashes + 32 * page..][..32] {
                self.bad_pages.push(page);
            }
        }
    }
}

/// The exported names: a tree, of which each node is the size of what it says of the name up to here, that, and its
/// children, each a piece of the name and where its node is.
fn read_exports(trie: &[u8], node: usize, name: &mut Vec<u8>, exports: &mut Vec<String>) {
    let mut bytes = Bytes(&trie[node..]);
    let size = bytes.uleb() as usize;
    if size != 0 {
        exports.push(String::from_utf8_lossy(name).into_owned());
    }
    let mut bytes = Bytes(&bytes.0[size..]);
    for _ in 0..bytes.next().unwrap_or(0) {
        let piece = bytes.string();
        let child = bytes.uleb() as usize;
        name.extend_from_slice(piece.as_bytes());
        read_exports(trie, child, name, exports);
        name.truncate(name.len() - piece.len());
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn uleb(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.next().expect("the rest of a number");
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn string(&mut self) -> String {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .expect("a string's end");
        let string = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        string
    }
}
