//! Codes, scales and values against bitsandbytes, bit for bit (tests/fixtures/make_nf4.py).

use super::*;
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/nf4.json")).expect("a fixture")
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("digits")).collect()
}

/// Floats by their bits, of 4 bytes, or 2 in the 16-bit types.
fn floats(bits: &Value, dtype: &str) -> Vec<f32> {
    let bytes = bytes(bits);
    let half = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    match dtype {
        "bfloat16" => bytes.chunks(2).map(|pair| half::bf16::from_bits(half(pair)).to_f32()).collect(),
        "float16" => bytes.chunks(2).map(|pair| half::f16::from_bits(half(pair)).to_f32()).collect(),
        _ => bytes.chunks(4).map(|x| f32::from_be_bytes(x.try_into().expect("4 bytes"))).collect(),
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Values that the fixture does not hold but names by a seed.
fn drawn(n: usize, seed: u32, scale: f32) -> Vec<f32> {
    let mix = |x: u32| {
        let x = (x ^ x >> 16).wrapping_mul(0x85eb_ca6b);
        let x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
        x ^ x >> 16
    };
    let value = |i: u32| {
        let x = (mix(i.wrapping_mul(0x9e37_79b1).wrapping_add(seed)) >> 8 & 0xffff) as f32 - 32768.0;
        let spread = (mix((i / 64).wrapping_add(seed) ^ 0x5bd1_e995) & 0xff) as f32;
        x / 4096.0 * (1.0 + spread / 32.0) * scale
    };
    (0..n as u32).map(value).collect()
}

fn drawn_of(source: &Value, n: usize) -> Vec<f32> {
    let scale = floats(&source["scale"], "float32")[0];
    drawn(n, source["seed"].as_u64().expect("a seed") as u32, scale)
}

/// FNV-1a of the bytes of values.
fn hash(values: &[f32]) -> String {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

fn check_values(what: &str, case: &Value, found: &[f32]) {
    match case["decoded_hash"].as_str() {
        Some(expected) => assert_eq!(hash(found), expected, "{what}"),
        None => assert_eq!(bits(found), bits(&floats(&case["decoded"], "float32")), "{what}"),
    }
}

fn nested(values: &Host) -> (&[u8], &[f32], &[f32], f32) {
    match &values.scales {
        Scales::Nested { codes, absmax, map, offset, .. } => (codes, absmax, map, *offset),
        Scales::Full(_) => panic!("scales are not quantised"),
    }
}

#[test]
fn tensors_have_the_bits_of_bitsandbytes() {
    let fixture = fixture();
    assert_eq!(bits(&LEVELS), bits(&floats(&fixture["levels"], "float32")));
    let cases = fixture["cases"].as_array().expect("cases");
    assert!(cases.len() > 40);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let n = case["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).product::<u64>() as usize;
        let values = match &case["drawn"] {
            Value::Null => floats(&case["values"], case["dtype"].as_str().expect("a dtype")),
            source => drawn_of(source, n),
        };
        assert_eq!(values.len(), n, "{name}");
        let single = Host::of(&values, Scheme { double: false });
        assert_eq!(single.codes, bytes(&case["codes"]), "{name}");
        let Scales::Full(absmax) = &single.scales else { panic!("{name}: scales are quantised") };
        assert_eq!(bits(absmax), bits(&floats(&case["absmax"], "float32")), "{name}");
        check_values(name, case, &single.decode());

        let double = Host::of(&values, Scheme { double: true });
        let expected = &case["nested"];
        assert_eq!(double.codes, single.codes, "{name}");
        let (codes, absmax, map, offset) = nested(&double);
        assert_eq!(bits(map), bits(&floats(&fixture["map"], "float32")));
        assert_eq!(bits(&[offset]), bits(&floats(&expected["offset"], "float32")), "offset of {name}");
        assert_eq!(codes, bytes(&expected["codes"]), "nested codes of {name}");
        assert_eq!(bits(absmax), bits(&floats(&expected["absmax"], "float32")), "nested absmax of {name}");
        check_values(name, expected, &double.decode());
    }
}

#[test]
fn magnitudes_have_the_bits_of_bitsandbytes() {
    let fixture = fixture();
    for case in fixture["magnitudes"].as_array().expect("cases") {
        let n = case["count"].as_u64().expect("a count") as usize;
        let values: Vec<f32> = drawn_of(&case["drawn"], n).into_iter().map(f32::abs).collect();
        let coded = Host { len: n * BLOCK, block: BLOCK, codes: Vec::new(), scales: nested::encode(&values) };
        let (codes, absmax, _, offset) = nested(&coded);
        assert_eq!(bits(&[offset]), bits(&floats(&case["offset"], "float32")), "{n}");
        assert_eq!(codes, bytes(&case["codes"]), "{n}");
        assert_eq!(bits(absmax), bits(&floats(&case["absmax"], "float32")), "{n}");
    }
    let means = fixture["means"].as_array().expect("means");
    assert!(means.len() > 20);
    for mean in means {
        let n = mean[0].as_u64().expect("a count") as usize;
        let values: Vec<f32> = drawn(n, n as u32, 1.0).into_iter().map(f32::abs).collect();
        let found = bits(&[nested::mean(&values)]);
        assert_eq!(found, bits(&floats(&mean[1], "float32")), "the mean of {n} values");
    }
}

/// Any part of a tensor is decoded as the whole is.
#[test]
fn parts_are_decoded_as_the_whole() {
    for double in [false, true] {
        let coded = Host::of(&drawn(1000, 7, 0.1), Scheme { double });
        let whole = coded.decode();
        for (first, n) in [(0, 1000), (1, 1), (63, 2), (64, 64), (65, 300), (999, 1), (130, 0), (501, 499)] {
            let mut part = vec![f64::NAN; n];
            coded.values(first, &mut part);
            let expected: Vec<f64> = whole[first..first + n].iter().map(|&x| x.into()).collect();
            assert_eq!(part, expected, "{n} values from {first}");
        }
    }
}
