//! Where a model lies: a directory, or an id in the offline Hugging Face cache. Nothing is ever downloaded.

use crate::error::{Error, Result};
use crate::files;
use std::path::{Path, PathBuf};

/// The directory of `name`: the path itself if it is a directory, else the snapshot of `org/name` in the cache that
/// `refs/main` names.
///
/// The cache is the first of `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`,
/// `XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub` that is set.
pub fn resolve(name: &str) -> Result<PathBuf> {
    find(name, |key| std::env::var(key).ok())
}

fn find(name: &str, env: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let is_id = name.split('/').count() <= 2 && !name.starts_with(['.', '/', '~']) && !name.contains('\\');
    if !is_id || name.is_empty() {
        return Err(Error::file(
            path,
            "no such model directory; give a directory with config.json and model.safetensors, or an id of the Hugging \
             Face cache",
        ));
    }
    let unknown = "neither HF_HOME nor HOME is set, so the Hugging Face cache cannot be found; give \
                   model.model_name_or_path as a directory";
    let cache = cache_dir(env).ok_or_else(|| Error::Usage(unknown.into()))?;
    let repo = cache.join(format!("models--{}", name.replace('/', "--")));
    let revision = files::read_to_string(repo.join("refs").join("main")).ok();
    let snapshot = revision.map(|r| repo.join("snapshots").join(r.trim())).filter(|p| p.is_dir());
    snapshot.ok_or_else(|| {
        Error::file(
            &repo,
            format!("model {name} is neither a directory nor in the cache; fetch it once with `hf download {name}`"),
        )
    })
}

fn cache_dir(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |key: &str| env(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|p| p.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("huggingface").join("hub")))
        .or_else(|| set("HOME").map(|p| p.join(".cache").join("huggingface").join("hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_the_cache_and_a_missing_one_says_how_to_fetch_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let repo = dir.path().join("hub").join("models--org--name");
        std::fs::create_dir_all(repo.join("refs")).expect("refs");
        std::fs::create_dir_all(repo.join("snapshots").join("abc")).expect("snapshots");
        std::fs::write(repo.join("refs").join("main"), "abc\n").expect("ref");
        let home = dir.path().to_string_lossy().into_owned();
        let env = |key: &str| (key == "HF_HOME").then(|| home.clone());
        assert_eq!(find("org/name", env).expect("found"), repo.join("snapshots").join("abc"));
        let missing = find("org/other", env).expect_err("not there").to_string();
        assert!(missing.ends_with("fetch it once with `hf download org/other`"), "{missing}");
    }
}
