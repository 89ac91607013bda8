//! Which weights timm publishes for a tower by itself.

/// Name of a tower, and the tag that timm takes for it by default, of the repository `timm/NAME.TAG`, or a repository of its own.
/// `tests/parity/export_timm_names.py` made the table from timm 1.0.31.
#[rustfmt::skip]
const PUBLISHED: &[(&str, &str)] = &[
    ("convnext_base", "fb_in22k_ft_in1k"),
    ("convnext_large", "fb_in22k_ft_in1k"),
    ("convnext_small", "in12k_ft_in1k"),
    ("convnext_tiny", "in12k_ft_in1k"),
    ("convnext_xlarge", "fb_in22k_ft_in1k"),
    ("convnext_xxlarge", "clip_laion2b_soup_ft_in1k"),
    ("eva02_base_patch16_clip_224", "merged2b"),
    ("eva02_enormous_patch14_clip_224", "laion2b"),
    ("eva02_large_patch14_clip_224", "merged2b"),
    ("eva02_large_patch14_clip_336", "merged2b"),
    ("eva_giant_patch14_224", "clip_ft_in1k"),
    ("fastvit_mci0", "apple/mobileclip_s0_timm"),
    ("fastvit_mci1", "apple/mobileclip_s1_timm"),
    ("fastvit_mci2", "apple/mobileclip_s2_timm"),
    ("fastvit_mci3", "apple_mclip2_dfndr2b"),
    ("fastvit_mci4", "apple_mclip2_dfndr2b"),
    ("swin_base_patch4_window7_224", "ms_in22k_ft_in1k"),
    ("vit_base_mci_224", "apple/mobileclip_b_lt_timm"),
    ("vit_base_patch16_siglip_224", "v2_webli"),
    ("vit_base_patch16_siglip_256", "v2_webli"),
    ("vit_base_patch16_siglip_384", "v2_webli"),
    ("vit_base_patch16_siglip_512", "v2_webli"),
    ("vit_base_patch32_siglip_256", "v2_webli"),
    ("vit_giantopt_patch16_siglip_256", "v2_webli"),
    ("vit_giantopt_patch16_siglip_384", "v2_webli"),
    ("vit_large_patch14_clip_224", "laion2b_ft_in12k_in1k"),
    ("vit_large_patch16_siglip_256", "v2_webli"),
    ("vit_large_patch16_siglip_384", "v2_webli"),
    ("vit_large_patch16_siglip_512", "v2_webli"),
    ("vit_medium_patch16_gap_256", "sw_in12k_ft_in1k"),
    ("vit_pe_core_base_patch16_224", "fb"),
    ("vit_pe_core_gigantic_patch14_448", "fb"),
    ("vit_pe_core_large_patch14_336", "fb"),
    ("vit_pe_core_small_patch16_384", "fb"),
    ("vit_pe_core_tiny_patch16_384", "fb"),
    ("vit_relpos_medium_patch16_cls_224", "sw_in1k"),
    ("vit_so400m_patch14_siglip_224", "v2_webli"),
    ("vit_so400m_patch14_siglip_378", "v2_webli"),
    ("vit_so400m_patch14_siglip_384", "webli"),
    ("vit_so400m_patch16_siglip_256", "v2_webli"),
    ("vit_so400m_patch16_siglip_384", "v2_webli"),
    ("vit_so400m_patch16_siglip_512", "v2_webli"),
    ("vitamin_base_224", "jienengchen/ViTamin-B-LTT"),
    ("vitamin_large2_224", "jienengchen/ViTamin-L2-224px"),
    ("vitamin_large2_256", "jienengchen/ViTamin-L2-256px"),
    ("vitamin_large2_336", "jienengchen/ViTamin-L2-336px"),
    ("vitamin_large2_384", "jienengchen/ViTamin-L2-384px"),
    ("vitamin_large_224", "jienengchen/ViTamin-L-224px"),
    ("vitamin_large_256", "jienengchen/ViTamin-L-256px"),
    ("vitamin_large_336", "jienengchen/ViTamin-L-336px"),
    ("vitamin_large_384", "jienengchen/ViTamin-L-384px"),
    ("vitamin_small_224", "jienengchen/ViTamin-S-LTT"),
    ("vitamin_xlarge_256", "jienengchen/ViTamin-XL-256px"),
    ("vitamin_xlarge_336", "jienengchen/ViTamin-XL-336px"),
    ("vitamin_xlarge_384", "jienengchen/ViTamin-XL-384px"),
];

/// The repository of the weights that timm loads for the tower `name`, which may have a tag of its own behind a dot.
pub(crate) fn repository(name: &str) -> Option<String> {
    if name.contains('.') {
        return Some(format!("timm/{name}"));
    }
    let (_, tag) = PUBLISHED.iter().find(|(known, _)| *known == name)?;
    Some(match tag.contains('/') {
        true => (*tag).to_owned(),
        false => format!("timm/{name}.{tag}"),
    })
}
