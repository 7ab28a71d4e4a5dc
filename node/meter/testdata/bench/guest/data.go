package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"regexp"
	"slices"
	"sort"
	"strings"
)

func words(n int) []string {
	r := newRandom()
	list := make([]string, n)
	for i := range list {
		b := make([]byte, 1+r.next()%9)
		for k := range b {
			b[k] = byte('a' + r.next()%26)
		}
		list[i] = string(b)
	}
	return list
}

// text splits, joins, searches and replaces.
func text() (sum uint64) {
	all := strings.Join(words(40_000), " ")
	for range 36 {
		fields := strings.Fields(all)
		joined := strings.Join(fields, ", ")
		sum += uint64(strings.Count(joined, "ab")) + uint64(strings.Index(joined, "zzz")+1)
		upper := strings.ToUpper(joined)
		sum = sum*31 + uint64(len(strings.ReplaceAll(upper, "E", "--")))
		sum += uint64(len(strings.Split(upper, "A")))
	}
	return sum
}

// encodeJSON goes through the encoder and the decoder, both by reflection.
func encodeJSON() (sum uint64) {
	type item struct {
		Name  string            `json:"name"`
		Tags  []string          `json:"tags"`
		Count int               `json:"count"`
		Rate  float64           `json:"rate"`
		Attrs map[string]string `json:"attrs"`
	}
	list := words(6_000)
	var items []item
	for i := 0; i+6 <= len(list); i += 6 {
		items = append(items, item{list[i], list[i+1 : i+3], i, float64(i) / 7, map[string]string{list[i+3]: list[i+4], "k": list[i+5]}})
	}
	for range 14 {
		b, err := json.Marshal(items)
		if err != nil {
			panic(err)
		}
		items = nil
		if err := json.Unmarshal(b, &items); err != nil {
			panic(err)
		}
		sum = sum*31 + uint64(len(b)+len(items))
	}
	return sum
}

// match searches with regular expressions.
func match() (sum uint64) {
	all := strings.Join(words(80_000), " ")
	for _, e := range []string{`[a-c]+[x-z]`, `(\w+)q(\w*) (\w)`, `\b[aeiou]\w{2,4}\b`} {
		for _, m := range regexp.MustCompile(e).FindAllStringSubmatchIndex(all, -1) {
			sum = sum*31 + uint64(m[0])
		}
	}
	return sum
}

func noise(n int) []byte {
	r := newRandom()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.next())
	}
	return b
}

func hash() (sum uint64) {
	b := noise(1 << 16)
	for range 400 {
		h := sha256.Sum256(b)
		copy(b, h[:])
		sum += binary.LittleEndian.Uint64(h[:])
	}
	return sum
}

func checksum() (sum uint64) {
	b := noise(1 << 16)
	for range 8_000 {
		c := crc32.ChecksumIEEE(b)
		b[c%(1<<16)]++
		sum = sum*31 + uint64(c)
	}
	return sum
}

func sorting() (sum uint64) {
	r := newRandom()
	source := make([]uint64, 150_000)
	for i := range source {
		source[i] = r.next()
	}
	list := words(30_000)
	for range 2 {
		a := slices.Clone(source)
		slices.Sort(a)
		sum = sum*31 + a[1000]
		b := slices.Clone(source)
		sort.Slice(b, func(i, j int) bool { return b[i]>>32 < b[j]>>32 })
		sum = sum*31 + b[2000]>>32
		c := slices.Clone(list)
		slices.SortStableFunc(c, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
		sum = sum*31 + uint64(len(c[15_000]))
	}
	return sum
}

func maps() (sum uint64) {
	list := words(20_000)
	for range 22 {
		count := map[string]int{}
		numbers := map[uint64]uint64{}
		for i, w := range list {
			count[w]++
			numbers[uint64(i)*7919%16384] += uint64(len(w))
		}
		for _, w := range list {
			sum += uint64(count[w])
		}
		for k, v := range numbers {
			sum += k * v
		}
	}
	return sum
}
