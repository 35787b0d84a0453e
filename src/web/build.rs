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
    ("vendor/highlight.js", "@highlightjs/cdn-assets/es/core.min.js"),
];

/// The languages that code is coloured in, each a file of its own: a page loads those that it shows.
const LANGUAGES: &str = "bash c clojure cpp csharp css dart diff dockerfile elixir erlang go gradle graphql groovy haskell \
    http ini java javascript json julia kotlin latex less lua makefile markdown nginx nix objectivec ocaml perl php powershell \
    properties protobuf python r ruby rust scala scss shell sql swift typescript vim wasm xml yaml";

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

/// Not before the first paint: the page asks for these when there is code to colour.
const LAZY: [&str; 3] = ["vendor/highlight.js", "vendor/languages.js", "vendor/languages/"];

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
    let modules = modules();
    let named = || modules.iter().map(|(_, path)| path.as_str()).chain(CLIENT.map(|(_, path)| path));
    let missing = named().chain(LICENCES.map(|(_, path)| path)).find(|path| !packages.join(path).is_file());
    if let (Some(path), true) = (missing, packages.exists()) {
        println!("cargo::warning=the server is built without its page: there is no {}", packages.join(path).display());
    }
    // Cargo takes a missing file for a changed one: so the build runs again when it is there.
    for path in named() {
        println!("cargo::rerun-if-changed={}", packages.join(path).display());
    }
    let mut table =
        String::from("/// What is served; nothing, where the build had no packages.\npub static FILES: &[File] = &[\n");
    if missing.is_none() {
        files.extend(modules.iter().map(|(name, path)| from_package(name, &packages.join(path))));
        files.push(languages(&packages));
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

/// What the page loads: its name there, and its path below the packages.
fn modules() -> Vec<(String, String)> {
    let languages = LANGUAGES.split_whitespace().map(|name| (format!("vendor/languages/{name}.js"), language(name)));
    MODULES.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).chain(languages).collect()
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
            let content = match name.rsplit('.').next() {
                Some("js" | "css") => without_comments(&read_text(&path)),
                _ => read(&path),
            };
            files.push(File { name: format!("{prefix}{name}"), content });
        }
    }
}

/// Without the lines that are nothing but comment: a third of what would be sent. Our own files only, in which no text of
/// several lines has one that begins like a comment.
fn without_comments(text: &str) -> Vec<u8> {
    let mut kept = String::with_capacity(text.len());
    let mut within = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        // A type in front of something is no line of its own.
        let alone = trimmed.find("*/").is_none_or(|end| end + 2 == trimmed.len());
        let begins = !within && trimmed.starts_with("/*") && alone;
        if within || begins {
            within = !trimmed.ends_with("*/");
        } else if !trimmed.is_empty() && !trimmed.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.into_bytes()
}

/// Without the address of a source map: the maps are not served.
fn from_package(name: &str, path: &Path) -> File {
    let text = read_text(path);
    let content = match text.rfind("//# sourceMappingURL=") {
        Some(at) => text[..at].trim_end().to_owned() + "\n",
        None => text,
    };
    File { name: name.to_owned(), content: content.into_bytes() }
}

/// A module that tells the page in which file each name of a language is; the other names are in its grammar, the last of
/// those where one is made of another.
fn languages(packages: &Path) -> File {
    let mut names = Vec::new();
    for name in LANGUAGES.split_whitespace() {
        names.push((name.to_owned(), name));
        let grammar = read_text(&packages.join(language(name)));
        let list = grammar.rsplit_once("aliases:[").and_then(|(_, rest)| rest.split_once(']'));
        let others = list.map_or("", |(list, _)| list).split(',').map(|other| other.trim_matches('"'));
        names.extend(others.filter(|other| !other.is_empty()).map(|other| (other.to_owned(), name)));
    }
    let entries: Vec<_> = names.iter().map(|(other, name)| format!("[{other:?},{name:?}]")).collect();
    let content = format!("export default new Map([{}]);\n", entries.join(","));
    File { name: "vendor/languages.js".to_owned(), content: content.into_bytes() }
}

/// Where npm has put a language's grammar.
fn language(name: &str) -> String {
    format!("@highlightjs/cdn-assets/es/languages/{name}.min.js")
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
    let template = read_text(&here.join("index.html"));
    let modules =
        files.iter().filter(|file| file.name.ends_with(".js") && !LAZY.iter().any(|lazy| file.name.starts_with(lazy)));
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

fn read_text(path: &Path) -> String {
    String::from_utf8(read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
