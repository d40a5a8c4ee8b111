//! The vocabulary of the generated tables: our own words, similar to Synthea's in number, frequency and length.

/// A kind of encounter.
pub(super) struct Encounter {
    pub(super) weight: u32,
    pub(super) class: &'static str,
    pub(super) code: &'static str,
    pub(super) description: &'static str,
    pub(super) reason: Option<(&'static str, &'static str)>,
}

const fn visit(
    weight: u32,
    class: &'static str,
    code: &'static str,
    description: &'static str,
    reason: Option<(&'static str, &'static str)>,
) -> Encounter {
    Encounter { weight, class, code, description, reason }
}

const SYMPTOM: &str = "Encounter for symptom";
const BAD_COLD: Option<(&str, &str)> = Some(("700100001", "Bad cold of the throat (disorder)"));
const BRONCHITIS: Option<(&str, &str)> = Some(("70010002", "Sudden bronchitis (disorder)"));
const CHILDHOOD_ASTHMA: Option<(&str, &str)> = Some(("700100003", "Asthma of a child"));
const HIGH_FAT: Option<(&str, &str)> = Some(("70010004", "Too much fat"));
const HEART_ATTACK: Option<(&str, &str)> = Some(("70010005", "Heart muscle attack"));
const PREGNANCY: Option<(&str, &str)> = Some(("70010006", "Ordinary pregnancy"));
const RHINITIS: Option<(&str, &str)> = Some(("700100007", "Lasting allergic rhinitis with changes by season"));
const SINUSITIS: Option<(&str, &str)> = Some(("70010008", "Plain sinusitis (disorder)"));
const BACTERIAL_SINUSITIS: Option<(&str, &str)> = Some(("70010009", "Bacterial sinusitis (disorder)"));
const VIRAL_SINUSITIS: Option<(&str, &str)> = Some(("700100010", "Sinusitis by virus (disorder)"));

/// Kinds of encounters. Those for a symptom all have a reason here, which the generator removes from one in ten.
pub(super) const ENCOUNTERS: &[Encounter] = &[
    visit(299, "wellness", "610000001", "General check-up of an adult (procedure)", None),
    visit(47, "wellness", "610000002", "Check-up of a child (procedure)", None),
    visit(47, "ambulatory", "610000003", "Encounter to follow up", HIGH_FAT),
    visit(28, "outpatient", "610000004", "Encounter for a routine (procedure)", None),
    visit(23, "ambulatory", "610000005", "Procedure  outpatient", None),
    visit(19, "ambulatory", "610000006", "Visit before birth", PREGNANCY),
    visit(16, "ambulatory", "610000007", SYMPTOM, VIRAL_SINUSITIS),
    visit(14, "ambulatory", "610000008", "First visit before birth", PREGNANCY),
    visit(13, "ambulatory", "610000009", "Encounter for a worry", None),
    visit(12, "outpatient", "610000009", "Encounter for a worry (procedure)", None),
    visit(7, "outpatient", "610000010", "Advice on the treatment ahead", None),
    visit(6, "ambulatory", "610000007", SYMPTOM, BRONCHITIS),
    visit(5, "ambulatory", "610000004", "Encounter for 'routine'", None),
    visit(5, "emergency", "61000011", "Emergency admission", Some(("70010011", "Overdose of a drug"))),
    visit(4, "ambulatory", "610000009", "Encounter for a worry", Some(("700100012", "Lack of iron (disorder)"))),
    visit(4, "emergency", "61000011", "Emergency room intake (procedure)", None),
    visit(4, "outpatient", "610000012", "Encounter with a patient", None),
    visit(3, "ambulatory", "610000007", SYMPTOM, BAD_COLD),
    visit(3, "inpatient", "610000013", "Encounter in a ward", Some(("700100013", "Wisdom tooth pain"))),
    visit(3, "emergency", "610000014", "Admission to hospital in a birth emergency", PREGNANCY),
    visit(3, "ambulatory", "610000015", "After birth", None),
    visit(3, "ambulatory", "610000007", SYMPTOM, SINUSITIS),
    visit(3, "inpatient", "61000016", "Drug withdrawal and recovery programme", None),
    visit(2, "ambulatory", "610000007", SYMPTOM, RHINITIS),
    visit(2, "urgentcare", "610000017", "Clinic for urgent care (procedure)", None),
    visit(2, "emergency", "61000018", "Heart muscle attack", None),
    visit(2, "wellness", "610000019", "Death certified", HEART_ATTACK),
    visit(2, "ambulatory", "610000020", "First look at an allergy disorder", None),
    visit(2, "ambulatory", "610000007", SYMPTOM, CHILDHOOD_ASTHMA),
    visit(2, "ambulatory", "610000003", "Encounter to follow up high pressure", Some(("70010014", "High pressure"))),
    visit(2, "inpatient", "610000013", "Encounter in a ward", Some(("70010015", "Pain that lasts"))),
    visit(2, "ambulatory", "610000007", SYMPTOM, BACTERIAL_SINUSITIS),
    visit(2, "ambulatory", "610000012", "Encounter with a patient (procedure)", None),
    visit(1, "emergency", "610000021", "Admission to hospital in an asthma emergency", CHILDHOOD_ASTHMA),
    visit(1, "ambulatory", "610000022", "Asthma follow-up", CHILDHOOD_ASTHMA),
    visit(1, "emergency", "610000023", "Heart at a halt", None),
    visit(1, "ambulatory", "610000003", "Encounter to follow up (procedure)", None),
    visit(1, "outpatient", "61000024", "Injection of a vaccine that leads to active immunity (procedure)", None),
    visit(1, "ambulatory", "610000004", "Encounter for 'routine'", Some(("70010016", "Concussion  awake all along"))),
    visit(1, "inpatient", "610000013", "Encounter in a ward", Some(("70010017", "Appendix inflamed"))),
    visit(
        1,
        "inpatient",
        "6100025",
        "Admission to hospital for isolation (procedure)",
        Some(("700100018", "Pandemic")),
    ),
    visit(1, "ambulatory", "610000004", "Encounter for 'routine'", Some(("70010019", "A broken rib"))),
    visit(1, "ambulatory", "610000007", SYMPTOM, Some(("700100020", "Hay fever of one season"))),
    visit(
        1,
        "inpatient",
        "610000013",
        "Encounter in a ward",
        Some(("700100000000021", "Headache that lasts  no aura")),
    ),
    visit(1, "ambulatory", "610000009", "Encounter for a worry", Some(("700100022", "Worn joint of a hip"))),
];

/// The payers' shares of encounters, in per mille.
pub(super) const PAYERS: [u32; 9] = [240, 178, 133, 100, 99, 86, 75, 69, 20];

/// A kind of condition: weight, code, description.
pub(super) const CONDITIONS: &[(u32, &str, &str)] = &[
    (186, "800000001", "Works the whole week (finding)"),
    (47, "80000002", "Under stress (finding)"),
    (26, "800000003", "Meets few people at all (finding)"),
    (20, "800000004", "Lives in isolation (finding)"),
    (14, "800000005", "Works a part of the week (finding)"),
    (11, "800000006", "Abused by an intimate partner (finding)"),
    (11, "8000000000007", "Has a certificate equal to that of a school (finding)"),
    (10, "80000008", "Ordinary pregnancy"),
    (8, "800000009", "Has been to a university (finding)"),
    (8, "800000010", "Weight index beyond 30 - obesity (finding)"),
    (7, "800000011", "Has been to a prison (finding)"),
    (7, "800000012", "Takes part in risky activity (finding)"),
    (7, "800000013", "Does not seek work (finding)"),
    (6, "80000014", "High pressure"),
    (5, "80000015", "Near diabetes"),
    (5, "800000016", "Lack of iron (disorder)"),
    (5, "80000017", "Lasting sinusitis (disorder)"),
    (4, "80000000000000018", "Unhealthy use of strong drinks (finding)"),
    (4, "800000019", "A sinusitis by virus (disorder)"),
    (3, "800000020", "Home is not good enough (finding)"),
    (3, "800000021", "Wisdom tooth pain"),
    (3, "80000022", "Overdose of a drug"),
    (3, "80000023", "Too much fat"),
    (3, "80000024", "Without work (finding)"),
    (2, "800000025", "Bad cold of the throat (disorder)"),
    (2, "800000026", "Lasting allergic rhinitis with changes by season"),
    (2, "80000027", "Narrow heart vessels"),
    (2, "80000028", "Heart muscle attack"),
    (2, "800000029", "Heart muscle attack in the past (situation)"),
    (2, "80000030", "Ankle twisted"),
    (2, "80000031", "Child lost in the first months"),
    (2, "80000032", "Pain that lasts"),
    (1, "80000033", "Sudden bronchitis (disorder)"),
    (1, "800000034", "Lasting bronchitis of narrow airways (disorder)"),
    (1, "800000035", "Asthma of a child"),
    (1, "800000036", "Heart at a halt"),
    (1, "800000037", "Heart at a halt in the past (situation)"),
    (1, "8000000000038", "Neck pain that lasts (finding)"),
    (1, "80000039", "Concussion  awake all along"),
    (1, "80000040", "Appendix inflamed"),
    (1, "800000041", "Appendix removed before"),
    (1, "800000042", "Short of oxygen (disorder)"),
    (1, "80000043", "Polyp in the gut"),
    (1, "80000044", "A broken rib"),
    (1, "800000045", "Low back pain that lasts (finding)"),
    (1, "800000046", "Preeclampsia"),
    (1, "800000000000047", "Headache that lasts  no aura"),
    (1, "800000048", "Worn joint of a hip"),
];

/// A kind of observation, with the form of its values.
pub(super) struct Observation {
    pub(super) category: &'static str,
    pub(super) code: &'static str,
    pub(super) description: &'static str,
    pub(super) units: &'static str,
    pub(super) values: Values,
}

pub(super) enum Values {
    /// A number with one decimal, between these two, given in tenths.
    Tenths(u32, u32),
    /// A whole number between these two, written with a decimal.
    Points(u32, u32),
    /// One of these; earlier ones are more likely.
    Answers(&'static [&'static str]),
    /// A whole number between these two, given in hundreds, as a text.
    Hundreds(u32, u32),
    /// A street and a number.
    Address,
}

const fn measure(
    category: &'static str,
    code: &'static str,
    description: &'static str,
    low: u32,
    high: u32,
    units: &'static str,
) -> Observation {
    Observation { category, code, description, units, values: Values::Tenths(low, high) }
}
const fn vital(code: &'static str, what: &'static str, low: u32, high: u32, units: &'static str) -> Observation {
    measure("vital-signs", code, what, low, high, units)
}
const fn lab(code: &'static str, what: &'static str, low: u32, high: u32, units: &'static str) -> Observation {
    measure("laboratory", code, what, low, high, units)
}
const fn points(
    category: &'static str,
    code: &'static str,
    description: &'static str,
    low: u32,
    high: u32,
    units: &'static str,
) -> Observation {
    Observation { category, code, description, units, values: Values::Points(low, high) }
}
const fn score(code: &'static str, what: &'static str, high: u32) -> Observation {
    points("survey", code, what, 0, high, "{score}")
}
const fn asked(code: &'static str, question: &'static str, answers: &'static [&'static str]) -> Observation {
    Observation { category: "survey", code, description: question, units: "", values: Values::Answers(answers) }
}

const NO_OR_YES: &[&str] = &["No", "No", "No", "No", "Yes"];

const VITALS: &[Observation] = &[
    vital("10001-2", "Height  cm", 480, 1950, "cm"),
    points("vital-signs", "10002-3", "Pain as told by the patient on a scale from none to ten [0-10]", 0, 4, "{score}"),
    vital("10003-1", "Weight (kg)", 35, 1250, "kg"),
    vital("10004-9", "Body mass (BMI)", 140, 380, "kg/m2"),
    points("vital-signs", "10005-6", "Blood pressure diastolic", 68, 89, "mm[Hg]"),
    points("vital-signs", "10006-4", "Blood pressure systolic", 100, 139, "mm[Hg]"),
    points("vital-signs", "10007-2", "Heartbeats", 60, 99, "/min"),
    points("vital-signs", "10008-0", "Breaths per time", 12, 16, "/min"),
];
const SMOKING: &[Observation] =
    &[asked("10010-5", "Smoking status as of this visit", &["Never smoked", "Never smoked", "Smoked once"])];
const GROWTH: &[Observation] =
    &[vital("10011-9", "Body mass (BMI) among children of the same age [rank]", 50, 990, "%")];
const INFANT: &[Observation] = &[
    vital("10012-7", "Weight rank among the same height", 200, 990, "%"),
    vital("10013-5", "Circumference of the head  from front", 340, 500, "cm"),
];
const LIFE_YEARS: &[Observation] = &[
    measure("", "QALY", "QALY", 10, 690, "a"),
    measure("", "DALY", "DALY", 0, 9, "a"),
    measure("", "QOLS", "QOLS", 8, 10, "{score}"),
];
const SOCIAL: &[Observation] = &[
    asked("20001-4", "Has a partner or one of the past made you afraid within this year?", NO_OR_YES),
    asked("20002-2", "Is the place where you live now one where you feel entirely safe  really?", &["Yes"]),
    asked("20003-0", "Did you seek refuge?", &["No"]),
    asked(
        "20004-8",
        "Have you been held in a jail or a prison or a detention centre or a youth facility for more than two nights within the past year?",
        &["No", "No", "Yes"],
    ),
    asked(
        "20005-5",
        "Some people feel tense or nervous or cannot sleep at night because the mind finds no peace. How much is this so with you lately?",
        &["Not at all", "Not at all", "A little bit", "Very much so"],
    ),
    asked(
        "20006-3",
        "How often do you see or talk to the people whom you feel close to and care about (talking to friends on the phone or visiting the family or going to a club or a church all count in this)?",
        &["3 to 5 times a week", "5 or more times a week", "Less than once a week", "1 or 2 times a week"],
    ),
    asked(
        "20007-1",
        "Did you miss a visit to a doctor or a meeting or work or things of daily life within a year because you had no way to go?",
        &["No"],
    ),
    asked(
        "20008-9",
        "Was there something that you or those who live with you were in need of within the past year and that you just could not get?",
        &[
            "I would rather not answer this question",
            "I would rather not answer this question",
            "Food",
            "Medicine or any health care",
            "Phone",
        ],
    ),
    Observation {
        category: "survey",
        code: "20009-7",
        description: "What did you and all members of your family who live with you earn within the past year  taken together? We ask because it decides on the benefits that you may be entitled to.",
        units: "/a",
        values: Values::Hundreds(20, 1_800),
    },
    asked(
        "20010-5",
        "Which insurance do you have?",
        &["Private insurance", "Private insurance", "Medicaid", "Medicare"],
    ),
    asked(
        "20011-3",
        "Which work do you do at the moment?",
        &[
            "Works full-time",
            "Works full-time",
            "Works part-time or sometimes",
            "Without work and not seeking any of it",
        ],
    ),
    asked(
        "20012-1",
        "What is the highest grade of a school that you did finish?",
        &["High school or what equals it", "More than high school", "High school or what equals it"],
    ),
    Observation {
        category: "laboratory",
        code: "20013-9",
        description: "At which address do you live?",
        units: "",
        values: Values::Address,
    },
    asked("20014-7", "Do you fear to lose the home you live in?", NO_OR_YES),
    asked("20015-4", "How do you live at the present time?", &["I have a place"]),
    points("survey", "20016-2", "How many people of your family live with you now  yourself counted in?", 1, 6, "{#}"),
    asked("20017-0", "In which language would you rather speak with us", &["English"]),
    asked("20018-8", "Have you ever served in the armed forces and been discharged by now?", &["No"]),
    asked(
        "20019-6",
        "Did you or your family mainly live on farm work of a season or in other places at any time in two years?",
        NO_OR_YES,
    ),
    asked("20020-4", "Your race(s)  please?", &["White", "White", "White", "Asian"]),
    asked("20021-2", "Is your origin Hispanic?", &["No"]),
];
const METABOLISM: &[Observation] = &[
    lab("3001-0", "Glucose", 630, 1050, "mg/dL"),
    lab("3002-8", "Urea nitrogen", 72, 199, "mg/dL"),
    lab("30003-4", "Creatinine", 6, 33, "mg/dL"),
    lab("30004-2", "Calcium", 85, 102, "mg/dL"),
    lab("3005-9", "Sodium", 1360, 1440, "mmol/L"),
    lab("3006-7", "Potassium", 37, 52, "mmol/L"),
    lab("3007-5", "Chloride", 1010, 1110, "mmol/L"),
    lab("30008-3", "Carbon dioxide", 201, 289, "mmol/L"),
];
const SUGAR: &[Observation] = &[lab("3009-1", "Haemoglobin A1c among all of it in blood", 57, 66, "%")];
const KIDNEY_AND_LIVER: &[Observation] = &[
    lab("30101-7", "Glomerular filtration by surface [predicted]", 610, 890, "mL/min"),
    lab("3102-6", "Protein [Mass by volume] in plasma or serum", 600, 800, "g/dL"),
    lab("3103-4", "Albumin [Mass by volume] in plasma or serum", 35, 55, "g/dL"),
    lab("30104-1", "Globulin [Mass by volume] in serum by sums", 20, 35, "g/L"),
    lab("3105-9", "Bilirubin  all of it [Mass by volume] in plasma or serum", 2, 12, "mg/dL"),
    lab("3106-7", "Phosphatase  alkaline [Activity by volume] in plasma or serum", 400, 1400, "U/L"),
    lab("3107-5", "Aminotransferase of alanine [Activity by volume] in plasma or serum", 80, 560, "U/L"),
    lab("3108-3", "Aminotransferase of aspartate [Activity by volume] in plasma or serum", 100, 400, "U/L"),
];
const FATS: &[Observation] = &[
    lab("3201-6", "All of the cholesterol", 1500, 2200, "mg/dL"),
    lab("3202-4", "Triglycerides", 1000, 1700, "mg/dL"),
    lab("30203-6", "Cholesterol in low density proteins", 600, 1450, "mg/dL"),
    lab("3204-0", "Cholesterol in high density proteins", 590, 800, "mg/dL"),
];
const BLOOD_COUNT: &[Observation] = &[
    lab("3301-4", "White cells [count by volume] in blood by an analyser", 35, 105, "10*3/uL"),
    lab("302-2", "Red cells [count by volume] in blood by an analyser", 39, 57, "10*6/uL"),
    lab("303-0", "Haemoglobin [Mass by volume] in blood", 120, 175, "g/dL"),
    lab("3304-8", "Haematocrit [Share of volume] of blood by an analyser", 330, 520, "%"),
    lab("305-5", "Mean volume of red cells by an analyser", 800, 960, "fL"),
    lab("306-3", "Mean haemoglobin mass of red cells by an analyser", 270, 330, "pg"),
    lab("307-1", "Mean share of haemoglobin in red cells by an analyser", 330, 360, "g/dL"),
    lab("30308-2", "Spread of the volumes of red cells [volume] by an analyser", 390, 460, "fL"),
    lab("309-7", "Platelets [count by volume] in blood by an analyser", 1500, 4500, "10*3/uL"),
    lab("30310-8", "Spread of the volumes of platelets [volume] in blood by an analyser", 1500, 5200, "fL"),
    lab("30311-6", "Mean of the volumes of platelets [volume] in blood by an analyser", 94, 124, "fL"),
];
const ALLERGIES: &[Observation] = &[
    lab("3401-2", "Peanut IgE found in serum", 0, 4, "kU/L"),
    lab("3402-0", "Walnut IgE found in serum", 0, 4, "kU/L"),
    lab("3403-8", "Codfish IgE found in serum", 0, 4, "kU/L"),
    lab("3404-6", "Shrimp IgE found in serum", 0, 4, "kU/L"),
    lab("3405-3", "Wheat IgE found in serum", 0, 4, "kU/L"),
    lab("3406-1", "White of egg IgE found in serum", 0, 4, "kU/L"),
    lab("3407-9", "Soy IgE found in serum", 0, 4, "kU/L"),
    lab("3408-7", "Milk of a cow IgE found in serum", 0, 4, "kU/L"),
    lab("3409-5", "Oak tree IgE found in serum", 0, 4, "kU/L"),
    lab("3410-3", "Common ragweed IgE found in serum", 0, 4, "kU/L"),
    lab("3411-1", "Fur of a cat IgE found in serum", 0, 4, "kU/L"),
    lab("3412-9", "American mite of house dust IgE found in serum", 0, 4, "kU/L"),
    lab("3413-7", "Mould of plants IgE found in serum", 0, 4, "kU/L"),
    lab("3414-5", "Bee venom IgE found in serum", 0, 4, "kU/L"),
    lab("3415-2", "Latex IgE found in serum", 0, 4, "kU/L"),
];
const MOOD: &[Observation] =
    &[score("40001-0", "Two questions on the mood of a patient  in all their points [told]", 5)];
const WORRY: &[Observation] =
    &[score("40002-8", "Seven questions on the worries of a patient  in all their points [told]", 12)];
const DRINKS: &[Observation] = &[score("40003-6", "Points for drinks [told]", 6)];
const FEAR: &[Observation] = &[score("40004-4", "Points for being hurt", 1)];
const DRUGS: &[Observation] = &[score("40005-1", "Points for drugs [told]", 3)];
const MOOD_OF_TEENS: &[Observation] =
    &[score("40006-9", "Nine questions on the mood of a patient  put so that the young answer  all points", 4)];
const DEEP_MOOD: &[Observation] =
    &[score("40007-7", "Nine questions on the mood of a patient  in all their points [told]", 9)];
const FALLS: &[Observation] = &[
    points("survey", "40008-5", "Risk of a fall  all the points", 20, 24, "{#}"),
    asked("40009-3", "Risk of a fall  its level by points", &["Low risk (points are from 0 to 24)"]),
];
const DEATH: &[Observation] = &[Observation {
    category: "exam",
    code: "40010-1",
    description: "What led to the death [as written on a certificate]",
    units: "null",
    values: Values::Answers(&["Heart muscle attack"]),
}];
const FEVER: &[Observation] = &[vital("4011-9", "Temperature inside", 365, 395, "Cel")];
const BREATH: &[Observation] = &[measure("procedure", "40012-7", "Air/s  %", 400, 800, "%")];
const GUT: &[Observation] = &[
    measure("procedure", "40013-5", "Longest side of a polyp by the cancer protocol", 10, 90, "mm"),
    lab("40014-3", "Haemoglobin of the gut [found] in stool by an immune test", 0, 90, "ng/mL"),
];

/// The observations made together at one encounter, with their frequency.
pub(super) const PANELS: &[(u32, &[&[Observation]])] = &[
    (25, &[LIFE_YEARS]),
    (18, &[SOCIAL]),
    (15, &[MOOD]),
    (8, &[WORRY]),
    (7, &[DRINKS]),
    (6, &[VITALS, GROWTH, SMOKING]),
    (6, &[VITALS, METABOLISM, SMOKING, SUGAR]),
    (5, &[FEAR]),
    (4, &[VITALS, SMOKING]),
    (3, &[DRUGS]),
    (3, &[METABOLISM, KIDNEY_AND_LIVER, FATS]),
    (3, &[VITALS, FATS, SMOKING]),
    (2, &[DEATH]),
    (2, &[ALLERGIES]),
    (2, &[MOOD_OF_TEENS]),
    (2, &[FALLS]),
    (2, &[VITALS, FATS, BLOOD_COUNT, SMOKING]),
    (1, &[VITALS, INFANT]),
    (1, &[BREATH, VITALS, SMOKING]),
    (1, &[VITALS, INFANT, GROWTH, SMOKING]),
    (1, &[VITALS, METABOLISM, FATS, BLOOD_COUNT, SMOKING, SUGAR]),
    (1, &[VITALS, INFANT, BLOOD_COUNT]),
    (1, &[FEVER]),
    (1, &[DEEP_MOOD]),
    (1, &[GUT]),
    (1, &[VITALS, BLOOD_COUNT, SMOKING]),
];

pub(super) const FIRST_NAMES: &[&str] = &[
    "Adalbert",
    "Birgitta",
    "Cosima",
    "Dagobert",
    "Edda",
    "Ferdinand",
    "Gerlinde",
    "Hartmut",
    "Ingeborg",
    "Jolanthe",
    "Kunibert",
    "Leopold",
    "Mechthild",
    "Notburga",
    "Ottokar",
    "Pankraz",
    "Quirin",
    "Roswitha",
    "Siegbert",
    "Thekla",
    "Ulrika",
    "Valentin",
    "Walburga",
    "Xaver",
    "Yvette",
    "Zacharias",
    "Anton",
];
pub(super) const LAST_NAMES: &[&str] = &[
    "Achterberg",
    "Bohnenkamp",
    "Cordes",
    "Dornbusch",
    "Eichendorff",
    "Feldmann",
    "Grothe",
    "Hagenbeck",
    "Immermann",
    "Jessen",
    "Kalkbrenner",
    "Lindenau",
    "Mohrmann",
    "Niehaus",
    "Oberhuber",
    "Petersen",
    "Quandt",
    "Rosenthal",
    "Sommer",
    "Tannhof",
    "Uhlmann",
    "Vollmer",
    "Wiesner",
    "Xanten",
    "Yorck",
    "Zumwalde",
    "Brandt",
];
/// City, county and zip code; the last may be unknown.
pub(super) const CITIES: &[(&str, &str, &str)] = &[
    ("Anchor Bay", "Saltmarsh County", ""),
    ("Biscuit", "Harbour County", "02901"),
    ("Castaway", "Saltmarsh County", ""),
    ("Driftwood", "Mainsail County", "02902"),
    ("East Lee", "Mainsail County", ""),
    ("Fairwind", "Harbour County", "02903"),
    ("Galleon", "Lighthouse County", ""),
    ("Hawser", "Windward County", "02904"),
    ("Inlet", "Lighthouse County", "02905"),
    ("Jettymouth", "Windward County", ""),
    ("Keel", "Lighthouse County", "02906"),
    ("Leeward", "Mainsail County", ""),
    ("Mizzen", "Harbour County", "02907"),
    ("North Anchorage", "Saltmarsh County", ""),
    ("Oarlock", "Lighthouse County", "02908"),
    ("Plimsoll", "Windward County", ""),
    ("Quayside", "Mainsail County", "02909"),
    ("Rigging Falls", "Lighthouse County", "02910"),
    ("Spindrift", "Saltmarsh County", ""),
    ("Tiller", "Harbour County", "02911"),
    ("Upper Capstan", "Windward County", ""),
    ("Vane", "Mainsail County", "02912"),
    ("Windlass", "Lighthouse County", ""),
    ("Yardarm", "Harbour County", "02913"),
];
pub(super) const STREETS: &[&str] = &[
    "Albatross Lane Suite 12",
    "Bowsprit Crossing",
    "Coral Wharf Apt 4",
    "Dolphin Square",
    "Ebbtide Road Unit 77",
    "Foghorn Hill",
    "Gangway Terrace",
    "Halyard Close Apt 31",
    "Islander Street",
    "Jib Court Suite 8",
    "Kelp Gardens",
    "Lantern Way Unit 5",
    "Moorings Boulevard",
    "Nautilus Place",
    "Outrigger Row Apt 19",
    "Porthole Alley",
];
/// Race, with its weight.
pub(super) const RACES: &[(u32, &str)] = &[(89, "white"), (4, "hawaiian"), (4, "asian"), (3, "black")];
