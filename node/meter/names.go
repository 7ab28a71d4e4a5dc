package meter

// names is what the output keeps of the name section: that of the module, and those of functions,
// which stack traces show. Names of locals go: the engine searches them for
// each function from the start.
type names struct {
	module    string
	hasModule bool
	functions []functionName
}

type functionName struct {
	index uint32 // in the source
	name  string
}

// parseNames reads a name section as the engine does, which refuses modules whose
// names are malformed: it ignores what the subsections that it knows say about their
// size.
func parseNames(r *reader) (*names, error) {
	n := &names{}
	left := uint64(r.left())
	for left > 0 {
		if r.left() == 0 {
			if r.end == len(r.src) {
				break
			}
			return nil, malformed(r.pos, "subsection of names is longer than its section")
		}
		id := r.byte()
		left--
		from := r.pos
		size := r.u32()
		left -= uint64(r.pos - from)
		switch id {
		case 0:
			n.module, n.hasModule = r.name(), true
		case 1:
			n.functions = n.functions[:0]
			for range r.count(2) {
				n.functions = append(n.functions, functionName{r.u32(), r.name()})
				if r.err != nil {
					return nil, r.err
				}
			}
		case 2:
			for range r.count(2) {
				r.u32()
				for range r.count(2) {
					r.u32()
					r.name()
				}
				if r.err != nil {
					return nil, r.err
				}
			}
		default:
			r.bytes(uint64(size))
		}
		if r.err != nil {
			return nil, r.err
		}
		left -= uint64(size)
	}
	return n, nil
}

// encodeNames writes the section with the names of what was added.
func encodeNames(n *names, m *module, added []functionName) []byte {
	if n == nil {
		n = &names{}
	}
	out := appendName(nil, "name")
	if n.hasModule {
		content := appendName(nil, n.module)
		out = append(out, 0)
		out = appendU32(out, uint32(len(content)))
		out = append(out, content...)
	}
	// In the order of their indices: the engine finds no name that comes after one of a higher index.
	var items []byte
	count := 0
	write := func(index uint32, name string) {
		items = appendU32(items, index)
		items = appendName(items, name)
		count++
	}
	imports := [...]functionName{
		{uint32(m.importedFuncs), FuncRefill},
		{uint32(m.importedFuncs) + 1, FuncTrap},
		{uint32(m.importedFuncs) + 2, FuncGrowTable},
	}
	own := imports[:]
	for _, f := range n.functions {
		if int64(f.index) >= int64(len(m.functions)) {
			continue
		}
		if int64(f.index) >= int64(m.importedFuncs) {
			for _, o := range own {
				write(o.index, o.name)
			}
			own = nil
		}
		write(m.moved(f.index), f.name)
	}
	for _, o := range append(own, added...) {
		write(o.index, o.name)
	}
	content := vector(count, items)
	out = append(out, 1)
	out = appendU32(out, uint32(len(content)))
	return append(out, content...)
}
