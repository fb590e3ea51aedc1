//! What to do about a job that failed, by its code ([MediaConvert error codes]).
//!
//! [MediaConvert error codes]: https://docs.aws.amazon.com/mediaconvert/latest/ug/mediaconvert_error_codes.html

use crate::Class;

/// What does not work when a job is spread over many machines, and does on one.
const ACCELERATION: [i32; 4] = [1041, 1042, 1043, 1550];

/// Faults of the service: nothing of the job has to change.
const FAULTS: [i32; 4] = [1517, 1522, 1999, 3999];

/// Something of its answers names whose fault it is: S3's words for who may not do something, or for what is not there.
const REFUSALS: [&str; 6] =
    ["access denied", "forbidden", "403", "not authorized", "assume", "does not exist"];

/// Whether it would do without acceleration.
pub(super) fn is_of_acceleration(code: i32) -> bool {
    ACCELERATION.contains(&code)
}

/// What is to be done.
pub(super) fn class(code: i32, message: &str) -> Class {
    let message = message.to_lowercase();
    let is_refused = REFUSALS.iter().any(|words| message.contains(words));
    match code {
        code if FAULTS.contains(&code) => Class::Busy,
        // Reading the source, assuming the role, writing to the bucket.
        1010 | 1401 | 1404 | 1432..=1434 | 3400..=3499 if is_refused => Class::Settings,
        1401 | 1404 => Class::Settings,
        3400..=3499 => match code {
            // Credentials, a bucket that is not there, a key of KMS.
            3401 | 3403 | 3404 | 3450..=3458 => Class::Settings,
            _ => Class::Busy,
        },
        1000..=1099 | 1432..=1434 | 1515..=1603 | 1700 => Class::Source,
        _ => Class::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_who_has_to_do_something() {
        assert_eq!(class(1040, "Unsupported input"), Class::Source);
        assert_eq!(class(1010, "The input cannot be opened: 403 Forbidden"), Class::Settings);
        assert_eq!(class(1010, "The input cannot be read"), Class::Source);
        assert_eq!(class(1999, "Unknown error"), Class::Busy);
        assert_eq!(class(1517, "Internal error"), Class::Busy);
        assert_eq!(class(3400, "Service error while writing"), Class::Busy);
        assert_eq!(class(3450, "S3 write error"), Class::Settings);
        assert_eq!(class(31_415, "what nobody has heard of"), Class::Busy);
        assert!(is_of_acceleration(1041) && is_of_acceleration(1550) && !is_of_acceleration(1040));
    }
}
