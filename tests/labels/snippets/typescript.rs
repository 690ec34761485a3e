//! TypeScript: what JavaScript does not have, and the same rules beside it.

use super::Snippet;
use eyekern::salience::Label::*;

#[rustfmt::skip] // one run a line
pub const SNIPPETS: &[Snippet] = &[
    ("function id<T extends B>(x: T, y?: number): T { return x; }", &[
        (FunctionDeclaration, "function id"),
        (Parameter, "< T extends B > x T y ? number"),
        (FunctionDeclaration, "T"),
        (Return, "return x"),
    ]),
    ("function names(): string[] { return []; }", &[
        (FunctionDeclaration, "function names"),
        (ExternallyDefined, "string"),
        (Variable, "[]"),
        (Return, "return"),
    ]),
    ("async function load(): Promise<Row> { return await get(); }", &[
        (FunctionDeclaration, "async function load"),
        (ExternalClass, "Promise"),
        (Argument, "< Row >"),
        (Return, "return await get"),
    ]),
    ("export abstract class A<T> extends B<T> implements C {\n  private readonly x: number = 3;\n  constructor(private \
      a: string) { super(); this.b = a as Foo; }\n  abstract m(): void;\n}", &[
        (FunctionDeclaration, "export abstract class A"),
        (Parameter, "< T >"),
        (ExternalClass, "extends B"),
        (Argument, "< T >"),
        (ExternalClass, "implements C"),
        (VariableDeclaration, "private readonly x number = 3"),
        (FunctionDeclaration, "constructor"),
        (Parameter, "private a string"),
        (FunctionCall, "super"),
        (ExternallyDefined, "this b"),
        (Assignment, "="),
        (Variable, "a"),
        (Operator, "as"),
        (ExternalClass, "Foo"),
        (FunctionDeclaration, "abstract m void"),
    ]),
    ("interface I extends J { a: string; m(x: number): void; }\ntype P = { a: number };\nenum E { A = 1, B }\n", &[
        (FunctionDeclaration, "interface I"),
        (ExternalClass, "extends J"),
        (VariableDeclaration, "a string"),
        (FunctionDeclaration, "m"),
        (Parameter, "x number"),
        (FunctionDeclaration, "void"),
        (VariableDeclaration, "type P = a number"),
        (FunctionDeclaration, "enum E"),
        (VariableDeclaration, "A = 1 B"),
    ]),
    ("function f(rows: number[]) { let q: Map<string, number> = new Map(); for (const r of rows) { if (r > 1) \
      continue; } q.set('a', 1); }", &[
        (FunctionDeclaration, "function f"),
        (Parameter, "rows number []"),
        (VariableDeclaration, "let q Map < string number > = new Map"),
        (Loop, "for const r of rows"),
        (ConditionalStatement, "if r > 1"),
        (Loop, "continue;"),
        (Variable, "q"),
        (FunctionCall, "set"),
        (Argument, "'a' 1"),
    ]),
    ("function f() { try { g<number>(2); } catch (e) { throw e; } }", &[
        (FunctionDeclaration, "function f"),
        (ExceptionHandling, "try"),
        (FunctionCall, "g"),
        (Argument, "< number > 2"),
        (ExceptionHandling, "catch"),
        (Parameter, "e"),
        (ExceptionHandling, "throw e"),
    ]),
    ("@Component({ a: 1 })\nclass A {\n  @Input() x: string;\n  run = (n: number) => n + 1;\n}\n", &[
        (ExternalClass, "Component"),
        (Argument, "a 1"),
        (FunctionDeclaration, "class A"),
        (VariableDeclaration, "@ Input x string run ="),
        (Parameter, "n number"),
        (VariableDeclaration, "=> n + 1"),
    ]),
    ("function f(u: U) { x = <any>u; y = !u; do { } while (u); }", &[
        (FunctionDeclaration, "function f"),
        (Parameter, "u U"),
        (ExternallyDefined, "x"),
        (Operator, "="),
        (Argument, "< any >"),
        (Variable, "u"),
        (ExternallyDefined, "y"),
        (Operator, "= !"),
        (Variable, "u"),
        (ExternallyDefined, "do while"),
        (ConditionalStatement, "u"),
    ]),
    ("function View(p: Props) { return <div id=\"a\">Hi {p.text}</div>; }", &[
        (FunctionDeclaration, "function View"),
        (Parameter, "p Props"),
        (Return, "return < div id = \"a\" > Hi p text </ div >"),
    ]),
    ("draw(<Row key={1} />);\nlet c = <T,>(x: T) => x;", &[
        (FunctionCall, "draw"),
        (Argument, "< Row key = 1 />"),
        (VariableDeclaration, "let c ="),
        (Parameter, "< T > x T"),
        (VariableDeclaration, "=> x"),
    ]),
];
