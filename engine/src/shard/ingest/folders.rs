//! Folders of tenants: most are called like the tenant; those whose names are ways out of the data folder, or
//! taken there, lie in a folder of ours.
//!
//! ```text
//! <data>/<tenant>/
//! <data>/.uru/tenants/{dot, dots, own, lost}/     of the tenants ".", "..", ".uru" and "lost+found"
//! ```

use std::path::{Path, PathBuf};

use super::OWN_FOLDER;
use crate::model::Error;

/// Longest name of a tenant, in bytes: it is the name of a folder.
pub const TENANT_BYTES_MAX: usize = 255;

/// The folder within [`OWN_FOLDER`] with the folders of tenants that can't be called like them.
const ELSEWHERE: &str = "tenants";

/// These tenants, and what their folders are called there.
const RENAMED: [(&str, &str); 4] = [(".", "dot"), ("..", "dots"), (OWN_FOLDER, "own"), ("lost+found", "lost")];

/// The folder of `tenant` below `data`.
pub fn tenant_folder(data: &Path, tenant: &str) -> PathBuf {
    match RENAMED.iter().find(|(name, _)| *name == tenant) {
        Some((_, folder)) => data.join(OWN_FOLDER).join(ELSEWHERE).join(folder),
        None => data.join(tenant),
    }
}

/// Tenants that have a folder below `data`, with it.
pub(super) fn tenant_folders(data: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && check_tenant(&name).is_ok()
            && tenant_folder(data, &name) == entry.path()
        {
            found.push((name, entry.path()));
        }
    }
    found.extend(RENAMED.iter().map(|(name, _)| ((*name).to_owned(), tenant_folder(data, name))));
    found.retain(|(_, folder)| folder.is_dir());
    Ok(found)
}

/// Whether `tenant` can have a folder.
pub fn check_tenant(tenant: &str) -> Result<(), Error> {
    let is_broken =
        tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || tenant.chars().any(|c| c == '/' || c.is_control());
    if is_broken {
        return Err(Error::invalid(format!(
            "tenant {tenant:?} can't be the name of a folder: 1 to {TENANT_BYTES_MAX} bytes, no slash and no \
             control character"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenant_has_a_folder_below_the_data_and_is_found_by_it() {
        let data = std::env::temp_dir().join(format!("uru-tenants-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&data));
        let long = "x".repeat(TENANT_BYTES_MAX);
        let tenants = [".", "..", "...", ".hidden", ".uru", "a\\b", "lost+found", "team a", long.as_str()];
        for tenant in tenants {
            check_tenant(tenant).unwrap();
            let folder = tenant_folder(&data, tenant);
            assert!(folder.components().all(|part| part != std::path::Component::ParentDir), "{tenant}");
            std::fs::create_dir_all(folder.join("block")).unwrap();
        }
        let mut found = tenant_folders(&data).unwrap();
        found.sort();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, tenants);
        assert!(found.iter().all(|(_, folder)| folder.starts_with(&data) && folder.join("block").is_dir()));
        std::fs::remove_dir_all(&data).unwrap();
        for bad in ["", "a/b", "../a", "a\n", &"x".repeat(TENANT_BYTES_MAX + 1)] {
            assert!(check_tenant(bad).is_err(), "{bad:?}");
        }
    }
}
