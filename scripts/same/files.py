"""How scripts/same compares files, by their format, and what it takes of the machine code in a program."""
import json
import re
import struct
import tomllib

# keys of measurements, by the file that has them
MEASURED = {
    "metrics.jsonl": {"seconds", "mfu", "peak_bytes", "seconds_left", "time", "eval_seconds"},
    "products.json": {"microseconds"},
}
SAID = ".said"  # the end of names of what a command said to people
TIMES = re.compile(r"\d+(\.\d+)?k? tok/s( \(\d+(\.\d+)?k? supervised\))?|peak \d+\.\d+ GiB|\S+( \S+)? left"
                   r"|\d+(\.\d+)? (s|ms|tokens/s|GiB available)\b")


def short(text, most=70):
    text = text if isinstance(text, str) else repr(text)
    return text if len(text) <= most else text[:most - 3] + "..."


def values(old, new, ignored=(), at=""):
    """The first difference of two JSON values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in (key for key in {**old, **new} if key not in ignored):
            if (key in old) != (key in new):
                return f"{at}.{key}: only the {'old' if key in old else 'new'} side has it"
            if found := values(old[key], new[key], ignored, f"{at}.{key}"):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list):
        pairs = (values(x, y, ignored, f"{at}[{i}]") for i, (x, y) in enumerate(zip(old, new)))
        lengths = f"{at}: {len(old)} entries, now {len(new)}" if len(old) != len(new) else None
        return next(filter(None, pairs), lengths)
    # repr tells 1 from 1.0 and from true, and 0.0 from -0.0
    return None if repr(old) == repr(new) else f"{at}: {short(old)}, now {short(new)}"


def lines(old, new):
    """The first difference of two texts."""
    old, new = old.splitlines(), new.splitlines()
    for i, (x, y) in enumerate(zip(old, new)):
        if x != y:
            at = next((j for j, (a, b) in enumerate(zip(x, y)) if a != b), min(len(x), len(y)))
            start = max(0, at - 30)
            return f"line {i + 1}, column {at + 1}: {short(x[start:])!r}, now {short(y[start:])!r}"
    return f"{len(old)} lines, now {len(new)}" if len(old) != len(new) else None


def tensors(data):
    size, = struct.unpack_from("<Q", data)
    return json.loads(data[8:8 + size]), memoryview(data)[8 + size:]


def weights(old, new):
    """The first difference of two safetensors files."""
    (head, x), (other, y) = tensors(old), tensors(new)
    if found := values(head, other):
        return f"header{found}"
    for name, tensor in head.items():
        begin, end = tensor["data_offsets"] if name != "__metadata__" else (0, 0)
        if x[begin:end] != y[begin:end]:
            width = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}.get(tensor["dtype"], 1)
            at = next(i for i in range(begin, end, width) if x[i:i + width] != y[i:i + width])
            read = lambda data: struct.unpack_from("<f", data, at)[0] if width == 4 else data[at:at + width].hex()
            wrong = sum(x[i:i + width] != y[i:i + width] for i in range(begin, end, width))
            count = (end - begin) // width
            return f"{name}[{(at - begin) // width}]: {read(x)}, now {read(y)} ({wrong} of {count} values)"
    return "other bytes beside the tensors"


def fields(message):
    """The fields of a message of protocol buffers: number and value."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 2: None, 5: 4}[key & 7] or varint()
            yield key >> 3, message[at:at + size]
            at += size


def events(data):
    """The records of an event file as lists, without times, checksums, measurements and comments of the recipe."""
    records, at = [], 0
    while at < len(data):
        size, = struct.unpack_from("<Q", data, at)
        event = dict(fields(data[at + 12:at + 12 + size]))
        event.pop(1, None)  # wall_time
        summary = [dict(fields(value)) for _, value in fields(event.pop(5, b""))]
        for value in summary:
            if 8 in value:  # a tensor, of which 8 is its text
                text = dict(fields(value[8]))[8].decode()
                value[8] = [line for line in text.splitlines() if not line.startswith("#")]
        records.append([event, [v for v in summary if v[1].decode().split("/")[-1] not in MEASURED["metrics.jsonl"]]])
        at += size + 16
    return records


def seal(old, new, folders):
    """The first difference of two lists of hashes, of files below two folders that may differ."""
    old, new = (dict(line.split("  ")[::-1] for line in text.splitlines()) for text in (old, new))
    read = lambda file: file.read_bytes() if file.is_file() else None
    equal = lambda name: read(folders[0] / name) == read(folders[1] / name)
    judged = [{name: code if equal(name) else "" for name, code in codes.items()} for codes in (old, new)]
    return values(*judged)


def difference(name, old, new):
    """The first difference of two files of one name; None where there is none that counts."""
    x, y = old.read_bytes(), new.read_bytes()
    if x == y:
        return None
    base, measured = name.rsplit("/", 1)[-1], MEASURED.get(name.rsplit("/", 1)[-1], ())
    if name.endswith(".safetensors"):
        return weights(x, y)
    if base == "tfevents":
        return values(events(x), events(y))
    try:
        x, y = x.decode(), y.decode()
        if base == "checkpoint.b3":
            return seal(x, y, (old.parent, new.parent))
        if name.endswith(".json"):
            return values(json.loads(x), json.loads(y), measured)
        if name.endswith(".jsonl"):
            return values(*([json.loads(line) for line in text.splitlines()] for text in (x, y)), measured)
        if name.endswith(".toml"):
            return values(tomllib.loads(x), tomllib.loads(y))
        if name.endswith(SAID):
            x, y = TIMES.sub("_", x), TIMES.sub("_", y)
        return lines(x, y) or (None if name.endswith(SAID) else "other line ends")
    except ValueError:  # no UTF-8, or one of them is torn
        at = next((i for i, (a, b) in enumerate(zip(x, y)) if a != b), min(len(x), len(y)))
        return f"other bytes from {at} on, of {len(x)} and {len(y)}"


def files(folder, texts):
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    # the names of event files have the time
    found = {re.sub(r"[^/]*tfevents\.[^/]*$", "tfevents", name): path for name, path in found.items()}
    return {name: path for name, path in found.items() if texts or not name.endswith(SAID)}


def folders(old, new, texts):
    """How many files two folders have together, and the differences as a sentence each."""
    old, new = files(old, texts), files(new, texts)
    told = []
    for name in sorted({**old, **new}):
        if name not in old or name not in new:
            told.append(f"{name}: only the {'old' if name in old else 'new'} side has it")
        elif found := difference(name, old[name], new[name]):
            told.append(f"{name}: {found}")
    return len({**old, **new}), told


# ---- machine code


def machine_code(program, to):
    """Writes what decides each kernel of the cubins in a program, and returns how many there are."""
    data, at, found = program.read_bytes(), 0, 0
    while (at := data.find(b"\x7fELF\x02\x01", at + 1)) >= 0:
        if struct.unpack_from("<H", data, at + 18)[0] == 190:  # e_machine: CUDA
            found += cubin(memoryview(data)[at:], to)
    return found


def cubin(elf, to):
    """Writes what decides each kernel of an ELF file to `to/ARCHITECTURE/KERNEL/` and returns how many there are."""
    (flags,), (start,) = struct.unpack_from("<I", elf, 48), struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQII", elf, start + size * i) for i in range(count)]
    text = bytes(elf[heads[names][4]:heads[names][4] + heads[names][5]])
    sections = {text[h[0]:text.index(0, h[0])].decode(): h for h in heads}
    content = lambda h: str(h[5]).encode() if h[1] == 8 else bytes(elf[h[4]:h[4] + h[5]])  # of no bits: their size
    kernels = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
    common = [name for name in sections if re.fullmatch(r"\.nv\.(constant\d|global(\.init)?)", name)]
    for kernel in kernels:
        folder = to / f"{flags:x}" / kernel
        folder.mkdir(parents=True)
        own = [name for name in sections if re.fullmatch(rf"\.(text|nv\.(constant\d|shared|info))\.{kernel}", name)]
        for name in own + common:
            found = content(sections[name])
            file = folder / name.removesuffix("." + kernel).strip(".")
            file.write_bytes(attributes(found) if name.startswith(".nv.info") else found)
    return len(kernels)


def attributes(info):
    """Attributes of a kernel without the indices of symbols, which depend on what else is in the file."""
    kept, at = b"", 0
    while at < len(info):
        kind, attribute, value = struct.unpack_from("<BBH", info, at)
        end = at + 4 + (value if kind == 4 else 0)  # of kind 4: the length of what follows
        symbols = {0x0a: 4, 0x0f: end}.get(attribute, 0)  # bank of parameters; externals
        kept += info[at:at + 4] + info[at + 4 + symbols:end]
        at = end
    return kept


