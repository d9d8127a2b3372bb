package simstack

import (
	"strings"
	"unicode"
)

// general are the letters that MariaDB's utf8_general_ci takes for another one
// than their upper case: the first of each word stands for the others. As
// WEIGHT_STRING of MariaDB 10.11 tells.
var general = folds(`
AÀÁÂÃÄÅàáâãäåĀāĂăĄąǍǎǞǟǠǡǺǻȀȁȂȃȦȧḀḁẠạẢảẤấẦầẨẩẪẫẬậẮắẰằẲẳẴẵẶặ
BḂḃḄḅḆḇ
CÇçĆćĈĉĊċČčḈḉ
DĎďḊḋḌḍḎḏḐḑḒḓ
EÈÉÊËèéêëĒēĔĕĖėĘęĚěȄȅȆȇȨȩḔḕḖḗḘḙḚḛḜḝẸẹẺẻẼẽẾếỀềỂểỄễỆệ
FḞḟ
GĜĝĞğĠġĢģǦǧǴǵḠḡ
HĤĥȞȟḢḣḤḥḦḧḨḩḪḫẖ
IÌÍÎÏìíîïĨĩĪīĬĭĮįİǏǐȈȉȊȋḬḭḮḯỈỉỊị
JĴĵǰ
KĶķǨǩḰḱḲḳḴḵ
LĹĺĻļĽľḶḷḸḹḺḻḼḽ
MḾḿṀṁṂṃ
NÑñŃńŅņŇňǸǹṄṅṆṇṈṉṊṋ
OÒÓÔÕÖòóôõöŌōŎŏŐőƠơǑǒǪǫǬǭȌȍȎȏȪȫȬȭȮȯȰȱṌṍṎṏṐṑṒṓỌọỎỏỐốỒồỔổỖỗỘộỚớỜờỞởỠỡỢợ
PṔṕṖṗ
RŔŕŖŗŘřȐȑȒȓṘṙṚṛṜṝṞṟ
SßŚśŜŝŞşŠšȘșṠṡṢṣṤṥṦṧṨṩẛ
TŢţŤťȚțṪṫṬṭṮṯṰṱẗ
UÙÚÛÜùúûüŨũŪūŬŭŮůŰűŲųƯưǓǔǕǖǗǘǙǚǛǜȔȕȖȗṲṳṴṵṶṷṸṹṺṻỤụỦủỨứỪừỬửỮữỰự
VṼṽṾṿ
WŴŵẀẁẂẃẄẅẆẇẈẉẘ
XẊẋẌẍ
YÝýÿŶŷŸȲȳẎẏẙỲỳỴỵỶỷỸỹ
ZŹźŻżŽžẐẑẒẓẔẕ
ÆǢǣǼǽ
ØǾǿ
ƷǮǯ
ΑΆάἀἁἂἃἄἅἆἇἈἉἊἋἌἍἎἏὰᾀᾁᾂᾃᾄᾅᾆᾇᾈᾉᾊᾋᾌᾍᾎᾏᾰᾱᾲᾳᾴᾶᾷᾸᾹᾺᾼ
ΕΈέἐἑἒἓἔἕἘἙἚἛἜἝὲῈ
ΗΉήἠἡἢἣἤἥἦἧἨἩἪἫἬἭἮἯὴᾐᾑᾒᾓᾔᾕᾖᾗᾘᾙᾚᾛᾜᾝᾞᾟῂῃῄῆῇῊῌ
ΙΊΐΪίϊἰἱἲἳἴἵἶἷἸἹἺἻἼἽἾἿὶῐῑῒῖῗῘῙῚ
ΟΌόὀὁὂὃὄὅὈὉὊὋὌὍὸῸ
ΡῤῥῬ
Σϲ
ΥΎΫΰϋύὐὑὒὓὔὕὖὗὙὛὝὟὺῠῡῢῦῧῨῩῪ
ΩΏώὠὡὢὣὤὥὦὧὨὩὪὫὬὭὮὯὼᾠᾡᾢᾣᾤᾥᾦᾧᾨᾩᾪᾫᾬᾭᾮᾯῲῳῴῶῷῺῼ
ϒϓϔ
ІЇї
АӐӑӒӓ
ГЃѓ
ЕЀЁѐёӖӗ
ЖӁӂӜӝ
ЗӞӟ
ИЍѝӢӣӤӥ
КЌќ
ОӦӧ
УЎўӮӯӰӱӲӳ
ЧӴӵ
ЫӸӹ
ЭӬӭ
ѴѶѷ
ӘӚӛ
ӨӪӫ
`)

func folds(words string) map[rune]rune {
	fold := map[rune]rune{}
	for word := range strings.FieldsSeq(words) {
		letters := []rune(word)
		for _, r := range letters[1:] {
			fold[r] = letters[0]
		}
	}
	return fold
}

// key is the same for texts that the collation takes for equal, and orders
// them as it does.
func (c Collation) key(text string) string {
	if c == Exact {
		return text
	}
	return strings.Map(func(r rune) rune {
		if base, ok := general[r]; ok {
			return base
		}
		return unicode.ToUpper(r)
	}, strings.TrimRight(text, " ")) // PAD SPACE
}
