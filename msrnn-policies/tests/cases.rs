//! The hand-worked cases in `testdata/policies/`, each in every form of evaluation.

mod hand_worked;

use burn::tensor::{DType, Device};
use hand_worked::{Form, cases};

fn every_case(form: Form, batch: usize) {
    let cases = cases();
    assert!(cases.len() > 8, "the cases are in testdata/policies");
    for (name, case) in &cases {
        for dtype in [DType::F64, DType::F32] {
            case.check(name, form, batch, dtype, &Device::default());
        }
    }
}

#[test]
fn every_case_holds_step_by_step() {
    every_case(Form::Steps, 1);
}

#[test]
fn every_case_holds_in_one_scan() {
    every_case(Form::Scan, 1);
}

#[test]
fn every_case_holds_in_scans_of_two() {
    every_case(Form::ScanInTwos, 1);
}

#[test]
fn every_case_holds_as_the_second_row_of_a_batch() {
    for form in [Form::Steps, Form::Scan, Form::ScanInTwos] {
        every_case(form, 2);
    }
}
