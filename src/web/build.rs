//! Puts the page into the binary: what lies beside this file, and the libraries that npm has fetched for it.
//!
//! Everything is served below one folder that is named after the contents, so that browsers may keep it for good and the
//! modules can name each other relatively. Where npm's packages are missing, the server is built without its page.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the page loads of each package.
const MODULES: [(&str, &str); 4] = [
    ("vendor/socket.io.js", "socket.io-client/dist/socket.io.esm.min.js"),
    ("vendor/marked.js", "marked/lib/marked.esm.js"),
    ("vendor/purify.js", "dompurify/dist/purify.es.mjs"),
    ("vendor/highlight.js", "@highlightjs/cdn-assets/es/highlight.min.js"),
];

/// What users of Socket.IO expect the server to have of its client.
const CLIENT: [(&str, &str); 3] = [
    ("socket.io.js", "socket.io-client/dist/socket.io.js"),
    ("socket.io.min.js", "socket.io-client/dist/socket.io.min.js"),
    ("socket.io.esm.min.js", "socket.io-client/dist/socket.io.esm.min.js"),
];

const LICENCES: [(&str, &str); 4] = [
    ("socket.io-client", "socket.io-client/LICENSE"),
    ("marked", "marked/LICENSE"),
    ("DOMPurify", "dompurify/LICENSE"),
    ("highlight.js", "@highlightjs/cdn-assets/LICENSE"),
];

/// Not before the first paint: the page asks for it when there is code to colour.
const LAZY: &str = "vendor/highlight.js";

/// A file as it is served.
struct File {
    name: String,
    content: Vec<u8>,
}

fn main() {
    let here = Path::new("src/web");
    let packages = here.join("node_modules");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    // A folder's time changes when something comes or goes, those of files with what they hold.
    println!("cargo::rerun-if-changed={}", here.display());
    let mut files = Vec::new();
    own_files(here, "", &mut files);
    let missing = MODULES.iter().chain(&CLIENT).chain(&LICENCES).find(|(_, path)| !packages.join(path).is_file());
    if let (Some((_, path)), true) = (missing, packages.exists()) {
        println!("cargo::warning=the server is built without its page: there is no {}", packages.join(path).display());
    }
    // Cargo takes a missing file for a changed one: so the build runs again when it is there.
    for (_, path) in MODULES.iter().chain(&CLIENT) {
        println!("cargo::rerun-if-changed={}", packages.join(path).display());
    }
    let mut table =
        String::from("/// What is served; nothing, where the build had no packages.\npub static FILES: &[File] = &[\n");
    if missing.is_none() {
        files.extend(MODULES.iter().map(|(name, path)| from_package(name, &packages.join(path))));
        files.push(licences(&packages));
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let folder = format!("assets/{:016x}", hash_of(here, &files));
        let index = index(here, &folder, &files);
        for File { name, content } in &files {
            entry(&mut table, &out, &format!("/{folder}/{name}"), name, content);
        }
        for (name, path) in CLIENT {
            entry(
                &mut table,
                &out,
                &format!("/socket.io/{name}"),
                name,
                &from_package(name, &packages.join(path)).content,
            );
        }
        entry(&mut table, &out, "/", "index.html", index.as_bytes());
    }
    table += "];\n";
    write(&out.join("files.rs"), table.as_bytes());
}

/// What lies in this folder and is for browsers; not the page itself, which is made of its template.
fn own_files(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder that can be read");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        let path = entry.path();
        if path.is_dir() {
            if name != "node_modules" && name != "vendor" {
                own_files(&path, &format!("{prefix}{name}/"), files);
            }
        } else if [".js", ".css", ".svg", ".png", ".webmanifest"].iter().any(|end| name.ends_with(end)) {
            files.push(File { name: format!("{prefix}{name}"), content: read(&path) });
        }
    }
}

/// Without the address of a source map: the maps are not served.
fn from_package(name: &str, path: &Path) -> File {
    let text = String::from_utf8(read(path)).expect("a script in UTF-8");
    let content = match text.rfind("//# sourceMappingURL=") {
        Some(at) => text[..at].trim_end().to_owned() + "\n",
        None => text,
    };
    File { name: name.to_owned(), content: content.into_bytes() }
}

/// Whoever passes the libraries on must pass these on, too.
fn licences(packages: &Path) -> File {
    let mut content = Vec::new();
    for (name, path) in LICENCES {
        content.extend_from_slice(format!("{name}\n\n").as_bytes());
        content.extend_from_slice(&read(&packages.join(path)));
        content.extend_from_slice(b"\n\n");
    }
    File { name: "vendor/licences.txt".to_owned(), content }
}

/// The page's template counts as well: then its own name for this version is good for it, too.
fn hash_of(here: &Path, files: &[File]) -> u64 {
    let mut hasher = DefaultHasher::new();
    read(&here.join("index.html")).hash(&mut hasher);
    for File { name, content } in files {
        (name, content).hash(&mut hasher);
    }
    hasher.finish()
}

/// Every module is asked for at once: a browser finds what a module needs only when it has it.
fn index(here: &Path, folder: &str, files: &[File]) -> String {
    let template = String::from_utf8(read(&here.join("index.html"))).expect("a page in UTF-8");
    let modules = files.iter().filter(|file| file.name.ends_with(".js") && file.name != LAZY);
    let links: Vec<_> =
        modules.map(|file| format!(r#"<link rel="modulepreload" href="{folder}/{}">"#, file.name)).collect();
    template.replace("<!-- modulepreload -->", &links.join("\n")).replace("{{assets}}", folder)
}

/// Writes a file's two forms, and the line of the table that names them.
fn entry(table: &mut String, out: &Path, address: &str, name: &str, content: &[u8]) {
    let stem = address.replace('/', "_");
    let (plain, gzip) = (format!("{stem}.plain"), format!("{stem}.gz"));
    write(&out.join(&plain), content);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory takes it");
    write(&out.join(&gzip), &encoder.finish().expect("memory takes it"));
    let content_type = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=UTF-8",
        Some("js") => "text/javascript; charset=UTF-8",
        Some("css") => "text/css; charset=UTF-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => "text/plain; charset=UTF-8",
    };
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    *table += &format!(
        "    File {{ path: {address:?}, content_type: {content_type:?}, etag: {etag:?}, \
         plain: include_bytes!({plain:?}), gzip: include_bytes!({gzip:?}) }},\n"
    );
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
