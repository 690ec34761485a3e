//! Keywords of CodeBLEU's weighted n-gram match: the files `codebleu/keywords/*.txt` of the package codebleu 0.7.0
//! (MIT licence), with their omissions (`null` of Java) and slips (`True` of JavaScript).

use crate::salience::syntax::Language;

/// The keywords of a language, separated by spaces; `None` if the package does not have the language.
pub fn keywords(language: Language) -> Option<&'static str> {
    Some(match language {
        Language::Java => {
            "abstract assert boolean break byte case catch char class const continue default do double else enum \
             extends final finally float for goto if implements import instanceof int interface long native new \
             package private protected public return short static strictfp super switch synchronized this throw \
             throws transient try void volatile while"
        }
        Language::CSharp => {
            "abstract as base bool break byte case catch char checked class const continue decimal default \
             delegate do double else enum event explicit extern false finally fixed float for foreach goto if \
             implicit in int interface internal is lock long namespace new null object operator out override \
             params private protected public readonly ref return sbyte sealed short sizeof stackalloc static \
             string struct switch this throw true try typeof uint ulong unchecked unsafe ushort using virtual \
             void volatile while add alias ascending async await by descending dynamic equals from get global \
             group into join let nameof notnull on orderby partial remove select set unmanaged value var when \
             where yield"
        }
        Language::Python => {
            "False None True and as assert async await break class continue def del elif else except finally for \
             from global if import in is lambda nonlocal not or pass raise return try while with yield match case \
             type"
        }
        Language::JavaScript => {
            "await break case catch class const continue debugger default delete do else enum export extends \
             false finally for function if implements import in instanceof interface let new null package private \
             protected public return super switch static this throw try True typeof var void while with yield"
        }
        Language::Go => {
            "break default func interface select case defer go map struct chan else goto package switch const \
             fallthrough if range type continue for import return var false true"
        }
        Language::C => {
            "auto else long switch break enum register typedef case extern return union char float short unsigned \
             const for signed void continue goto sizeof volatile default if static while do int struct _Packed \
             double"
        }
        Language::Cpp => {
            "auto const double float int short struct unsigned break continue else for long signed switch void \
             case default enum goto register sizeof typedef volatile char do extern if return static union while \
             asm dynamic_cast namespace reinterpret_cast bool explicit new static_cast typeid catch false try \
             operator template typename class friend private this using const_cast inline public throw virtual \
             delete mutable protected true wchar_t and bitand compl not_eq or_eq xor_eq and_eq bitor not or xor \
             cin endl INT_MIN iomanip main npos std cout include INT_MAX iostream MAX_RAND NULL string"
        }
        Language::Rust => {
            "as async await block bool break char const continue crate default dyn else enum expr extern f32 f64 \
             false fn for i128 i16 i32 i64 i8 ident if impl in isize item let lifetime literal loop macro_rules! \
             match meta mod move mut pat path pub ref return self static stmt str struct super trait true tt ty \
             type u128 u16 u32 u64 u8 union unsafe use usize vis where while yield"
        }
        Language::TypeScript => return None,
    })
}
