//! The conformance suite: what any pair of layer and scratch must do, alone and under a view. A backend
//! implements [`Bed`] and expands [`crate::conformance!`], which makes one test of every case.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "every function here is the body of a test"
)]

pub mod attrs;
pub mod changes;
pub mod dirs;
pub mod errors;
pub mod faults;
pub mod files;
pub mod handles;
pub mod links;
pub mod permissions;
pub mod resolve;
pub mod scratch;
pub mod threads;
mod world;

pub use world::World;

use crate::spec::StackSpec;
use stratafs_core::{Layer, Scratch};

/// Where a backend keeps the layers of a stack and one scratch, across openings of a view.
pub trait Bed: Sized {
    /// The backend's layer.
    type L: Layer;
    /// The backend's scratch.
    type S: Scratch;

    /// Makes the layers, and an empty scratch; `None` when the machine cannot (and that was said).
    fn new(stack: &StackSpec) -> Option<Self>;

    /// Opens the layers, topmost first. Their origins are the same each time.
    fn layers(&self) -> Vec<Self::L>;

    /// Opens the scratch, always the same one. What was opened before is dropped by then.
    fn scratch(&self) -> Self::S;
}

/// Opens a world, or returns from the test when the machine cannot.
macro_rules! open_world {
    ($bed:ty, $stack:expr) => {
        match $crate::conformance::World::<$bed>::open(&$crate::spec::StackSpec::from($stack)) {
            Some(world) => world,
            None => return,
        }
    };
}
pub(crate) use open_world;

/// Makes one `#[test]` of each case of the suite, for a type that is a [`Bed`].
#[macro_export]
macro_rules! conformance {
    ($bed:ty) => {
        $crate::conformance!(@cases $bed, files:
            create_write_read_reopen, copy_up_leaves_the_layer_alone, opening_with_truncate_starts_empty,
            truncate_keeps_what_stays, writing_past_the_end_leaves_zeros, holes_survive_copy_up,
            blocks_can_be_reserved_and_punched, copies_between_handles, large_files_copy_up_whole,
            temporary_files_have_no_name, special_nodes_are_made_and_kept, removed_names_stay_removed,
        );
        $crate::conformance!(@cases $bed, links:
            hard_links_survive_copy_up_and_reopening, link_counts_follow_the_names, new_names_of_lower_files,
            links_across_directories_and_renames, renaming_onto_the_same_object_does_nothing,
            symbolic_links_can_be_linked, linked_and_removed_in_one_session,
        );
        $crate::conformance!(@cases $bed, handles:
            readers_see_writes_after_copy_up, files_outlive_their_names, replaced_files_stay_readable,
            handles_follow_renames, access_modes_are_kept, appends_go_to_the_end, metadata_copy_up_keeps_data,
            directories_outlive_their_names, numbers_do_not_change_at_copy_up,
        );
        $crate::conformance!(@cases $bed, dirs:
            merged_listings, renamed_lower_directories_keep_children, renamed_merged_directories_take_new_children,
            renaming_back_and_forth, directories_move_into_moved_directories, old_names_can_be_used_again,
            directories_replace_empty_directories, exchange_swaps_anything, loops_are_refused,
            parents_follow_renames, cookies_resume_anywhere, cookies_survive_changes, large_directories,
            deep_paths, odd_names, opaque_directories_hide_what_is_below, root_attributes_are_kept,
        );
        $crate::conformance!(@cases $bed, errors:
            names_in_the_way, kinds_in_the_way, renames_that_must_fail, attributes_that_must_fail,
            read_only_views_refuse_every_change, bad_arguments,
        );
        $crate::conformance!(@cases $bed, attrs:
            copy_up_keeps_everything, times_are_exact, changes_touch_the_right_times, chown_clears_setid,
            setgid_directories_pass_on_their_group, umask_applies_without_default_acl,
            default_acls_are_inherited, xattrs_come_and_go, user_xattrs_only_where_linux_has_them,
            private_xattrs_are_hidden_and_escaped, writes_clear_capabilities,
        );
        $crate::conformance!(@cases $bed, permissions:
            searching_and_reading_need_permission, changes_need_permission, refused_opens_copy_nothing_up,
            sticky_directories_protect_names, owners_and_modes, xattr_namespaces_are_guarded,
            writes_by_users_clear_setid, new_objects_belong_to_their_maker, untrusted_layers_are_stripped,
        );
        $crate::conformance!(@cases $bed, resolve:
            links_are_followed_inside, nothing_leaves_the_root, link_loops_end, last_links_and_slashes,
            parents_for_new_names,
        );
        $crate::conformance!(@cases $bed, changes:
            nothing_changed, additions, modifications_say_what, deletions, renames, kind_changes, taken_back,
            changes_survive_reopening,
        );
        $crate::conformance!(@cases $bed, threads:
            appenders_lose_nothing_through_one_copy_up, listings_under_churn_show_stable_names_once,
            atomic_replacement_is_never_seen_half, renames_against_copy_ups, links_against_copy_ups,
            directories_move_under_lookups,
        );
        $crate::conformance!(@cases $bed, faults:
            fault_01_copied_up_and_removed_stays_gone, fault_02_lower_handle_and_writer,
            fault_03_directory_made_anew_is_empty, fault_04_rmdir_of_a_merged_directory_that_is_not_empty,
            fault_05_copy_up_keeps_attributes, fault_06_renamed_lower_directory,
            fault_09_many_files_open_and_close, fault_10_names_and_depth,
            fault_11_permission_before_copy_up, fault_12_three_names_of_one_lower_file,
        );
        $crate::conformance!(@cases $bed, scratch:
            staged_objects_are_published_or_gone, whole_objects_are_put, what_is_put_inherits_nothing,
            publishing_over_what_is_there, whiteouts_and_clear,
            links_and_renames, exchange_keeps_both, marks_are_kept, the_index, kept_and_pinned_objects,
            file_data, attributes_and_xattrs, durability_and_space,
        );
    };
    (@cases $bed:ty, $group:ident: $($case:ident),* $(,)?) => {
        mod $group {
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::conformance::$group::$case::<$bed>();
                }
            )*
        }
    };
}
