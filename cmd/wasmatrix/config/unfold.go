package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// unfoldBlocks puts each key of a block that is written on one line on a line
// of its own, since HCL allows only one key in such a block:
//
//	ports { api = 7480  raft = 7481 }
//
// It returns the text and the original line of each of its lines.
func unfoldBlocks(src []byte) ([]byte, func(int) int) {
	tokens, diags := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	if diags.HasErrors() {
		return src, func(line int) int { return line }
	}
	u := unfolder{src: src, lines: []int{0, 1}}
	for i := range tokens {
		u.token(tokens, i)
	}
	u.copyTo(len(src))
	return u.out.Bytes(), func(line int) int { return u.lines[min(line, len(u.lines)-1)] }
}

type unfolder struct {
	src    []byte
	out    bytes.Buffer
	copied int // bytes of src in out
	line   int // of src, at copied
	lines  []int
	open   []bool // for each bracket that is open: whether it is a block's
}

// inBlock reports whether a statement of a block can begin here.
func (u *unfolder) inBlock() bool { return len(u.open) > 0 && u.open[len(u.open)-1] }

func (u *unfolder) token(tokens hclsyntax.Tokens, i int) {
	prev := hclsyntax.TokenNewline
	if i > 0 {
		prev = tokens[i-1].Type
	}
	next := hclsyntax.TokenEOF
	if i+1 < len(tokens) {
		next = tokens[i+1].Type
	}
	fresh := prev == hclsyntax.TokenNewline || prev == hclsyntax.TokenComment
	t := tokens[i]
	switch t.Type {
	case hclsyntax.TokenIdent:
		// After "=" it is a value; before "=" or "{" it begins a statement.
		begins := prev != hclsyntax.TokenEqual && (next == hclsyntax.TokenEqual || next == hclsyntax.TokenOBrace)
		if u.inBlock() && begins && !fresh {
			u.breakBefore(t)
		}
	case hclsyntax.TokenOBrace:
		atStatement := len(u.open) == 0 || u.inBlock()
		u.open = append(u.open, atStatement && prev == hclsyntax.TokenIdent)
	case hclsyntax.TokenCBrace:
		if u.inBlock() && !fresh && prev != hclsyntax.TokenOBrace {
			u.breakBefore(t)
		}
		u.close()
	case hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		u.open = append(u.open, false)
	case hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
		u.close()
	default:
	}
}

func (u *unfolder) close() {
	if len(u.open) > 0 {
		u.open = u.open[:len(u.open)-1]
	}
}

func (u *unfolder) breakBefore(t hclsyntax.Token) {
	u.copyTo(t.Range.Start.Byte)
	u.out.WriteByte('\n')
	u.lines = append(u.lines, u.line+1)
}

func (u *unfolder) copyTo(end int) {
	for _, b := range u.src[u.copied:end] {
		if b == '\n' {
			u.line++
			u.lines = append(u.lines, u.line+1)
		}
	}
	u.out.Write(u.src[u.copied:end])
	u.copied = end
}
