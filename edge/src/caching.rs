//! What may be kept, by whom, and for how long.

/// `Cache-Control` of what is the same for everybody who may have it: what its store says, but for the viewer
/// alone. A cache between us and others would go on serving it to whoever has the URL, after its expiry too.
#[must_use]
pub fn for_one_viewer(stored: Option<&str>) -> String {
    let shared = |directive: &&str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        directive.is_empty()
            || ["public", "private", "s-maxage"].iter().any(|shared| name.eq_ignore_ascii_case(shared))
    };
    let kept = stored.unwrap_or_default().split(',').map(str::trim).filter(|directive| !shared(directive));
    std::iter::once("private").chain(kept).collect::<Vec<_>>().join(", ")
}

/// `Cache-Control` of a playlist with a viewer's authority in it: kept for that viewer, asked for again each time.
pub const REWRITTEN: &str = "private, no-cache";

/// `Cache-Control` of answers of our own: what is refused now may be allowed in a moment.
pub const REFUSED: &str = "no-store";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_by_its_viewer_only() {
        assert_eq!(for_one_viewer(None), "private");
        assert_eq!(for_one_viewer(Some("")), "private");
        assert_eq!(
            for_one_viewer(Some("max-age=31536000, immutable")),
            "private, max-age=31536000, immutable"
        );
        assert_eq!(for_one_viewer(Some("Public,s-maxage=60,max-age=5")), "private, max-age=5");
        assert_eq!(for_one_viewer(Some("no-store")), "private, no-store");
    }
}
